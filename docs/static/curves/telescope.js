// The encoder's arrows turned (chapter 11; diffnotes/book/explorers/telescope.py). There is nothing to compute: at each stop other
// parts of the figure are shown.
export const compute = ({ stop }, { parts, shown, readings }) => ({
  curves: shown[stop].map((is, i) => (is ? parts[i] : null)),
  reading: readings[stop],
});
