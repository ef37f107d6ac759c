// Runs in the notebook's page: puts new text into cells, found by their ids. JupyterLab 4 and Notebook 7 give a widget's manager the
// notebook's context; where there is none (VS Code, Colab), the answer is "unable". See cell_link.py for the messages.

const cellsOf = (model) => model.widget_manager?.context?.model?.cells;

const same = (one, other) => one.trimEnd() === other.trimEnd();

function look(cells, changes) {
  const found = new Map();
  for (let place = 0; place < cells.length; place++) found.set(cells.get(place).id, cells.get(place));
  return changes.map((change) => {
    const cell = found.get(change.id);
    if (!cell) return { ...change, outcome: "gone" };
    if (cell.getMetadata?.("editable") === false) return { ...change, outcome: "locked" };
    const text = cell.sharedModel.getSource();
    return { ...change, cell, outcome: same(text, change.before) || same(text, change.after) ? "replaced" : "edited" };
  });
}

function answer(model) {
  const { number, changes } = model.get("request");
  if (!number) return;
  const cells = cellsOf(model);
  const seen = cells ? look(cells, changes) : [];
  const refused = seen.find((one) => one.outcome !== "replaced");
  if (!refused) for (const one of seen) one.cell.sharedModel.setSource(one.after);
  const outcome = cells ? (refused?.outcome ?? "replaced") : "unable";
  model.send({ number, outcome, id: refused?.id ?? "" });
}

function initialize({ model }) {
  model.on("change:request", () => answer(model));
  answer(model);
}

export default { initialize };
