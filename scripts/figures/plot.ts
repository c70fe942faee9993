/**
 * Observable Plot draws the figures, since scales, axes and marks are data to it; linkedom is the document that it draws into.
 */
import { type PlotOptions, plot } from "@observablehq/plot";
import { parseHTML } from "linkedom";

/** Middle tones, which show on white and on black. */
export const colors = { blue: "#4f8fd6", orange: "#d9822b", green: "#3fa06b", grey: "#8b949e" } as const;

/** Text and axes are black on white and white on black, as the reader's browser is set. */
const theme = "svg { color: #24292f } @media (prefers-color-scheme: dark) { svg { color: #e6edf3 } }";

/** A figure as the text of an SVG file: the same on every machine. `title` is what it says to those who do not see it. */
export function figure(title: string, options: PlotOptions): string {
  const { document } = parseHTML("<html><body></body></html>");
  const svg = plot({ width: 720, height: 320, style: { fontSize: "12px" }, ...options, document });
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  svg.setAttribute("role", "img");
  const label = document.createElement("title");
  label.textContent = title;
  const style = document.createElement("style");
  style.textContent = theme;
  svg.querySelector("style").replaceWith(label, style);
  return `${withShortNumbers(svg.outerHTML as string)}\n`;
}

const coordinates = /( (?:d|transform|[xy][12]?|c[xy]|width|height)=")([^"]*)"/g;

/** Coordinates to a hundredth of a pixel: less to store, and no last digits in which machines could differ. */
function withShortNumbers(svg: string): string {
  return svg.replace(
    coordinates,
    (_, name, value: string) => `${name}${value.replace(/\d+\.\d{3,}/g, (x) => String(Number(Number(x).toFixed(2))))}"`,
  );
}
