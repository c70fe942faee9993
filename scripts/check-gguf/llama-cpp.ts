import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ArgumentError } from "../../src/base/errors.ts";

/** What is used of node-llama-cpp, which is not a dependency and so has no types here. */
interface Library {
  getLlama(options: object): Promise<Llama>;
}
interface Llama {
  readonly llamaCppRelease: { readonly release: string };
  /** llama.cpp's own interpreter of templates, which the package does not export. */
  readonly _bindings: { readonly AddonJinjaRenderer: new (template: string) => { render(items: object): string } };
  loadModel(options: object): Promise<Model>;
  dispose(): Promise<void>;
}
interface Model {
  readonly tokens: {
    readonly bos: number | null;
    readonly eos: number | null;
    readonly shouldPrependBosToken: boolean;
    readonly shouldAppendEosToken: boolean;
  };
  readonly fileInfo: { readonly metadata: { readonly tokenizer: { readonly chat_template?: string } } };
  tokenize(text: string, specialTokens: boolean): number[];
  detokenize(tokens: readonly number[], specialTokens: boolean): string;
  createContext(options: object): Promise<Context>;
  dispose(): Promise<void>;
}
interface Context {
  getSequence(): {
    controlledEvaluate(input: readonly unknown[]): Promise<{ next: { logits: Map<number, number> } }[]>;
  };
  dispose(): Promise<void>;
}

/** llama.cpp on the CPU, through node-llama-cpp below `directory`. */
export class LlamaCpp {
  readonly #llama: Llama;

  private constructor(llama: Llama) {
    this.#llama = llama;
  }

  /** Throws ArgumentError when the package is not there. */
  static async open(directory: string): Promise<LlamaCpp> {
    const entry = resolve(directory, "node_modules/node-llama-cpp/dist/index.js");
    const library: Library = await import(pathToFileURL(entry).href).catch((cause: Error) => {
      throw new ArgumentError(
        `${entry}: ${cause.message}; npm install --prefix ${directory} node-llama-cpp brings llama.cpp`,
      );
    });
    const options = { gpu: false, build: "never", skipDownload: true, logLevel: "error" };
    return new LlamaCpp(await library.getLlama(options));
  }

  get version(): string {
    return this.#llama.llamaCppRelease.release;
  }

  async load(file: string): Promise<LlamaCppModel> {
    const model = await this.#llama.loadModel({ modelPath: resolve(file), useMmap: false });
    return new LlamaCppModel(this.#llama, model);
  }

  dispose(): Promise<void> {
    return this.#llama.dispose();
  }
}

export class LlamaCppModel {
  readonly #llama: Llama;
  readonly #model: Model;

  constructor(llama: Llama, model: Model) {
    this.#llama = llama;
    this.#model = model;
  }

  /** [L, V], keys and values kept in float32. */
  async logits(ids: readonly number[], vocabulary: number): Promise<Float32Array> {
    const context = await this.#model.createContext({
      contextSize: ids.length + 8,
      batchSize: ids.length,
      flashAttention: false,
      experimentalKvCacheKeyType: "F32",
      experimentalKvCacheValueType: "F32",
    });
    const asked = ids.map((id) => [id, { generateNext: { logits: true } }]);
    const rows = await context.getSequence().controlledEvaluate(asked);
    const logits = new Float32Array(ids.length * vocabulary).fill(Number.NaN);
    for (const [row, { next }] of rows.entries()) {
      for (const [id, logit] of next.logits) logits[row * vocabulary + id] = logit;
    }
    await context.dispose();
    return logits;
  }

  /** With what the file says begins and ends a text. */
  encode(text: string): number[] {
    const { bos, eos, shouldPrependBosToken, shouldAppendEosToken } = this.#model.tokens;
    return [
      ...(shouldPrependBosToken ? [bos!] : []),
      ...this.#model.tokenize(text, true),
      ...(shouldAppendEosToken ? [eos!] : []),
    ];
  }

  decode(ids: readonly number[]): string {
    return this.#model.detokenize(ids, true);
  }

  /** By the template in the file; undefined where there is none. */
  render(messages: readonly object[]): string | undefined {
    const template = this.#model.fileInfo.metadata.tokenizer.chat_template;
    if (template === undefined) return undefined;
    const { bos, eos } = this.#model.tokens;
    const text = (id: number | null) => (id === null ? "" : this.#model.detokenize([id], true));
    const renderer = new this.#llama._bindings.AddonJinjaRenderer(template);
    return renderer.render({ messages, add_generation_prompt: true, bos_token: text(bos), eos_token: text(eos) });
  }

  dispose(): Promise<void> {
    return this.#model.dispose();
  }
}
