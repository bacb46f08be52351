// Numbers in words, as Python's format() writes them: the readings of notebook and page are the same to the letter.

// f(0.1234, ".2f") = "0.12"; the forms are "d", ",", "g", ".3g", ".2f" and ".0%".
export function f(x, form) {
  const digits = Number(form.match(/\.(\d+)/)?.[1] ?? 6);
  if (form === "d") return String(x);
  if (form === ",") return String(x).replace(/\B(?=(\d{3})+$)/g, ",");
  if (form.endsWith("%")) return `${fixed(100 * x, digits)}%`;
  if (form.endsWith("f")) return fixed(x, digits);
  return general(x, digits);
}

// JavaScript rounds a half up, Python to the even digit; only numbers that end exactly in a half differ.
const HALF = `5${"0".repeat(29)}`;

function halfToEven(usual, long) {
  if (!long.endsWith(HALF)) return usual;
  const cut = long.slice(0, -HALF.length).replace(/\.$/, "");
  return "02468".includes(cut.at(-1)) ? cut : usual;
}

function fixed(x, digits) {
  const minus = x < 0 || Object.is(x, -0) ? "-" : "";
  const size = Math.abs(x);
  return minus + halfToEven(size.toFixed(digits), size.toFixed(digits + HALF.length));
}

function general(x, digits) {
  if (x === 0) return "0";
  const [usual, exponent] = x.toExponential(digits - 1).split("e");
  const mantissa = halfToEven(usual, x.toExponential(digits - 1 + HALF.length).split("e")[0]);
  const e = Number(exponent);
  const short = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  if (e >= -4 && e < digits) return short(fixed(x, digits - 1 - e));
  return `${short(mantissa)}e${e < 0 ? "-" : "+"}${String(Math.abs(e)).padStart(2, "0")}`;
}
