// The encoder's arrows turned (chapter 11; diffnotes/book/explorers/telescope.py). There is nothing to compute: at each stop other
// parts of the figure are shown.
export const compute = ({ stop }, { shown, readings }) => ({
  curves: shown[stop].map((is) => (is ? {} : null)),
  reading: readings[stop],
});
