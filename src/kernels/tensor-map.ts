import type { DriverApi, HostBlock } from "../driver/api.ts";

/** Where a tensor map is encoded, and its bytes as an argument of a launch. */
export interface MapBlock {
  readonly block: HostBlock;
  readonly bytes: Uint8Array;
}

type MapBlocks = readonly [MapBlock, MapBlock, MapBlock];

/** Per driver, since a driver makes the memory. */
const blocks = new WeakMap<DriverApi, MapBlocks>();

/** The blocks in which launches encode their tensor maps: a launch copies them, so that all launches may share them. */
export function mapBlocks(api: DriverApi): MapBlocks {
  let of = blocks.get(api);
  if (!of) {
    const make = (): MapBlock => {
      const block = api.scratch(128);
      return { block, bytes: new Uint8Array(block.buffer, 0, 128) };
    };
    of = [make(), make(), make()];
    blocks.set(api, of);
  }
  return of;
}
