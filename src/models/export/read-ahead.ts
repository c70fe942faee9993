/**
 * What `load` makes of each item, in their order: the next is being loaded while one is in use, and two are in memory at most. Each is
 * disposed when the next one is asked for, and on the way out.
 */
export async function* readAhead<Item, Loaded extends Disposable>(
  items: readonly Item[],
  load: (item: Item) => Promise<Loaded>,
): AsyncGenerator<readonly [Item, Loaded]> {
  let next: Promise<Loaded> | undefined;
  const begin = (item: Item): Promise<Loaded> => {
    const loading = load(item);
    loading.catch(() => undefined); // what went wrong is said when its turn comes
    return loading;
  };
  try {
    for (const [i, item] of items.entries()) {
      using loaded = await (next ?? begin(item));
      next = i + 1 < items.length ? begin(items[i + 1]!) : undefined;
      yield [item, loaded];
    }
  } finally {
    const unused = await next?.catch(() => undefined);
    unused?.[Symbol.dispose]();
  }
}
