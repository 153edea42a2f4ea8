// Numbers and times as people read them. Null and undefined become a dash.

const DASH = "–";
const absent = (value) => value === null || value === undefined || Number.isNaN(value);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (value) => (absent(value) ? DASH : whole.format(value));
export const brief = (value) => (absent(value) ? DASH : compact.format(value));

/** A probability or share as it is: 0.824. */
export const probability = (value) => (absent(value) ? DASH : value.toFixed(3));

/** A share as per cent: 12.3 %. */
export function percent(value) {
  if (absent(value)) return DASH;
  const hundredfold = value * 100;
  const size = Math.abs(hundredfold);
  const places = size === 0 || size >= 99.95 ? 0 : size < 1 ? 2 : 1;
  return `${hundredfold.toFixed(places)} %`;
}

/** A relative change, with its sign. */
export const change = (value) =>
  absent(value) ? DASH : `${value > 0 ? "+" : value < 0 ? "−" : ""}${percent(Math.abs(value))}`;

/** A difference of probabilities in percentage points, with its sign. */
export function points(value) {
  if (absent(value)) return DASH;
  const text = Math.abs(value * 100).toFixed(1);
  return `${text === "0.0" ? "±" : value > 0 ? "+" : "−"}${text} points`;
}

/** A figure with its 95 % interval: $12.30 [$11.00, $13.70]. */
export const interval = (one, write) =>
  !one || absent(one.value) ? DASH : `${write(one.value)} [${write(one.low)}, ${write(one.high)}]`;

/** Money: three significant digits below a dollar, cents above. */
export function usd(value) {
  if (absent(value)) return DASH;
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size === 0) return "$0";
  if (size >= 1) return `${sign}$${size.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  if (size < 1e-7) return `${sign}$${size.toExponential(2)}`;
  return `${sign}$${size.toFixed(Math.min(9, 2 - Math.floor(Math.log10(size))))}`;
}

/** A duration given in milliseconds. */
export function ms(value) {
  if (absent(value)) return DASH;
  if (value >= 60_000) return `${(value / 60_000).toFixed(1)} min`;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return value >= 100 ? `${value.toFixed(0)} ms` : `${value.toFixed(2)} ms`;
}

/** λ as it is written in a configuration. */
export const plain = (value) => (absent(value) ? DASH : String(Number(value.toPrecision(6))));

const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const clockSeconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const year = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** The reader's own zone, in which all times are shown. */
export const zoneOf = () => Intl.DateTimeFormat().resolvedOptions().timeZone ?? "local time";

const asDate = (moment) => (typeof moment === "number" ? new Date(moment * 1000) : new Date(moment));

/** "25 Nov, 14:03:05", in the reader's own zone. */
export const time = (moment) =>
  absent(moment) ? DASH : `${day.format(asDate(moment))}, ${clockSeconds.format(asDate(moment))}`;

/** "25 Nov 2026, 14:03:05". */
export const fullTime = (moment) =>
  absent(moment) ? DASH : `${year.format(asDate(moment))}, ${clockSeconds.format(asDate(moment))}`;

export const dayOf = (moment) => day.format(asDate(moment));
export const clockOf = (moment) => clock.format(asDate(moment));

/** "3 minutes ago". */
export function ago(moment) {
  if (absent(moment)) return DASH;
  const seconds = Math.max(0, (Date.now() - asDate(moment)) / 1000);
  const [unit, size] = [
    ["second", 1],
    ["minute", 60],
    ["hour", 3600],
    ["day", 86400],
  ].findLast(([, size]) => seconds >= size) ?? ["second", 1];
  const number = Math.floor(seconds / size);
  return `${number} ${unit}${number === 1 ? "" : "s"} ago`;
}

/** "3.2 days". */
export function until(moment) {
  const hours = Math.max(0, (asDate(moment) - Date.now()) / 3_600_000);
  return hours >= 48 ? `${(hours / 24).toFixed(1)} days` : `${hours.toFixed(1)} h`;
}

/** highest_utility → highest utility. */
export const words = (name) => (absent(name) ? DASH : String(name).replaceAll("_", " "));
