// Tables and lists as CSV files that a spreadsheet opens and does not execute.

const FORMULA = /^[=+\-@\t\r]/;

/** One cell; a text that a spreadsheet would take for a formula gets an apostrophe in front. */
function cell(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Rows of texts as CSV. */
export const csvOf = (rows) => rows.map((row) => row.map((one) => cell(String(one))).join(",") + "\r\n").join("");

/** Hands a text to the reader as a file. */
export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  Object.assign(link, { href: address, download: `${name}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
