import { ArgumentError } from "../../base/errors.ts";

/** What a template threw on purpose: messages that it does not accept. */
export class TemplateRefusal extends ArgumentError {}

const months = "January February March April May June July August September October November December".split(" ");
const days = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/** The functions and constants that transformers gives to a chat template. `now` makes the date a parameter, for tests. */
export function templateGlobals(now: () => Date): Record<string, unknown> {
  return {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range,
    raise_exception: (message: unknown) => {
      throw new TemplateRefusal(`the chat template refuses these messages: ${String(message)}`);
    },
    strftime_now: (format: unknown) => strftime(now(), String(format)),
  };
}

/** Python's range; bounded, because a template is data from a download. */
function range(start: number, stop?: number, step = 1): number[] {
  const [first, end] = stop === undefined ? [0, start] : [start, stop];
  const length = Math.max(0, Math.ceil((end - first) / step));
  if (!(step !== 0 && length <= 1_000_000))
    throw new ArgumentError(`the chat template asks for a range of ${length} numbers`);
  return Array.from({ length }, (_, i) => first + i * step);
}

/** Python's strftime in the C locale, as far as templates use it: local time, English names. */
export function strftime(date: Date, format: string): string {
  const two = (n: number) => String(n).padStart(2, "0");
  const hour12 = date.getHours() % 12 || 12;
  const fields: Record<string, string> = {
    Y: String(date.getFullYear()),
    y: two(date.getFullYear() % 100),
    m: two(date.getMonth() + 1),
    d: two(date.getDate()),
    B: months[date.getMonth()]!,
    b: months[date.getMonth()]!.slice(0, 3),
    A: days[date.getDay()]!,
    a: days[date.getDay()]!.slice(0, 3),
    H: two(date.getHours()),
    I: two(hour12),
    M: two(date.getMinutes()),
    S: two(date.getSeconds()),
    p: date.getHours() < 12 ? "AM" : "PM",
    "-d": String(date.getDate()),
    "-m": String(date.getMonth() + 1),
    "-H": String(date.getHours()),
    "-I": String(hour12),
    "%": "%",
  };
  return format.replaceAll(/%(-?[A-Za-z]|%)/g, (all, field: string) => fields[field] ?? all);
}
