// Runs in the notebook's page: puts new text into cells, found by their ids, and runs them. JupyterLab 4 and Notebook 7 give a widget's manager the
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

// Of several pages that show the notebook, the one in which the button was clicked runs the cells.
let clicked = null;
const remember = (event) => (clicked = event.target.closest?.(".tfdiag-run") ?? clicked);

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function until(true_, milliseconds) {
  for (const end = Date.now() + milliseconds; Date.now() < end; await pause(50)) if (true_()) return true;
  return true_();
}

// The page gives a widget no commands, so that a cell is run as a person does it: focus, then Ctrl+Enter.
async function runs(cell, node) {
  const count = cell.executionCount;
  node.focus();
  await pause(150);
  const key = { key: "Enter", code: "Enter", keyCode: 13, ctrlKey: true, bubbles: true, cancelable: true };
  (document.activeElement ?? node).dispatchEvent(new KeyboardEvent("keydown", key));
  return until(() => cell.executionCount !== count || cell.executionState === "running", 3000);
}

async function run(model, number, ids) {
  const notebook = clicked?.closest(".jp-Notebook");
  if (!clicked) return;
  clicked = null;
  const cells = cellsOf(model);
  const nodes = new Map();
  for (const node of notebook?.querySelectorAll(".jp-CodeCell[data-windowed-list-index]") ?? []) {
    const cell = cells?.get(Number(node.dataset.windowedListIndex));
    if (cell) nodes.set(cell.id, [cell, node]);
  }
  let outcome = ids.every((id) => nodes.has(id)) ? "started" : "unable";
  for (const id of ids) if (outcome === "started" && !(await runs(...nodes.get(id)))) outcome = "unable";
  model.send({ number, outcome, id: "" });
}

function answer(model) {
  const { number, changes, run: ids } = model.get("request");
  if (!number) return;
  if (ids) return run(model, number, ids);
  const cells = cellsOf(model);
  const seen = cells ? look(cells, changes) : [];
  const refused = seen.find((one) => one.outcome !== "replaced");
  if (!refused) for (const one of seen) one.cell.sharedModel.setSource(one.after);
  const outcome = cells ? (refused?.outcome ?? "replaced") : "unable";
  model.send({ number, outcome, id: refused?.id ?? "" });
}

function initialize({ model }) {
  document.addEventListener("click", remember, true);
  model.on("change:request", () => answer(model));
  answer(model);
  return () => document.removeEventListener("click", remember, true);
}

export default { initialize };
