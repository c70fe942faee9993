import { expect, test } from "vitest";
import { shapeConfig, shapeNames } from "../../bench/support/shapes.ts";
import { Device } from "../../src/driver/device.ts";
import { randomNetwork } from "../../src/models/load-network.ts";
import { FakeDriver } from "../support/fake-driver.ts";

/** Parameters of the checkpoints as their makers or the Hub count them, without vision towers. */
const parameters: Readonly<Record<string, number>> = {
  "llama-2-7b": 6_738_415_616,
  "llama-3.1-8b": 8_030_261_248,
  "llama-3.2-1b": 1_235_814_400,
  "llama-3.2-3b": 3_212_749_824,
  "mistral-7b": 7_248_023_552,
  "qwen2.5-7b": 7_615_616_512,
  "qwen3-8b": 8_190_735_360,
  "gemma-2-9b": 9_241_705_984,
  "gemma-3-12b": 11_766_034_176,
  "phi-4": 14_659_507_200,
  "mixtral-8x7b": 46_702_792_704,
  "qwen3-30b-a3b": 30_532_122_624,
};

test.each(shapeNames)("%s has as many parameters as the checkpoint", (name) => {
  // Allocations of the fake driver take no memory until they are touched.
  using device = new Device(new FakeDriver({ totalBytes: 2 ** 40 }), 0, "fake:0");
  using network = randomNetwork(shapeConfig(name), device, "bfloat16");
  expect(network.parameterCount).toBe(parameters[name]);
  expect(network.contextLength).toBe(shapeConfig(name).maxPositionEmbeddings);
});
