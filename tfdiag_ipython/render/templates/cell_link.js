// Runs in the notebook's page: puts new text into cells, found by their ids, and runs them. JupyterLab 4 and Notebook 7 give a widget's manager the
// notebook's context; where there is none (VS Code, Colab), the page never says that it is able. See cell_link.py for the messages.

const cellsOf = (context) => context?.model?.cells;

const same = (one, other) => one.trimEnd() === other.trimEnd();

function byId(cells) {
  const found = new Map();
  for (let place = 0; place < cells.length; place++) found.set(cells.get(place).id, cells.get(place));
  return found;
}

function look(found, changes) {
  return changes.map((change) => {
    const cell = found.get(change.id);
    if (!cell) return { ...change, outcome: "gone" };
    if (cell.getMetadata?.("editable") === false) return { ...change, outcome: "locked" };
    const text = cell.sharedModel.getSource();
    return { ...change, cell, outcome: change.now.some((one) => same(one, text)) ? "replaced" : "edited" };
  });
}

// Of several pages that show the notebook, the one in which the button was clicked decides and runs the cells; the others follow.
const pressed = new Set();
const remember = (event) => pressed.add(event.target.closest?.(".tfdiag-panel button")?.textContent.trim());

// What JupyterLab's own run does with a cell's model. Its commands are out of a widget's reach, and cells that are scrolled away stand in no
// DOM. Whoever asks for input is not run here: the kernel would wait for a field that nobody shows.
async function runs(kernel, cell) {
  cell.sharedModel.transact(() => cell.clearExecution(), false);
  cell.trusted = true;
  cell.executionState = "running";
  const request = { code: cell.sharedModel.getSource(), stop_on_error: true, allow_stdin: false };
  const future = kernel.requestExecute(request, false, { cellId: cell.id });
  const named = new Map();
  future.onIOPub = ({ header, content }) => {
    const output = { ...content, output_type: header.msg_type };
    const name = content.transient?.display_id;
    if (header.msg_type === "clear_output") {
      cell.outputs.clear(content.wait);
      named.clear();
    } else if (header.msg_type === "update_display_data") {
      for (const place of named.get(name) ?? []) cell.outputs.set(place, { ...output, output_type: "display_data" });
    } else if (["stream", "display_data", "execute_result", "error"].includes(header.msg_type)) {
      const count = cell.outputs.add(output);
      if (name) named.set(name, [...(named.get(name) ?? []), count - 1]);
    }
  };
  const { content } = await future.done;
  cell.executionState = "idle";
  cell.executionCount = content.execution_count ?? null;
  return content.status === "ok";
}

async function answer(model) {
  const { number, changes, run, pressed: label } = model.get("request");
  if (!number) return;
  const here = !label || pressed.has(label);
  if (label) pressed.clear();
  if (!here) return;
  const context = model.widget_manager?.context;
  const cells = cellsOf(context);
  if (!cells) return model.send({ number, outcome: "unable", id: "" });
  const found = byId(cells);
  const kernel = context.sessionContext?.session?.kernel;
  const seen = [...look(found, changes), ...run.filter((id) => !found.has(id)).map((id) => ({ id, outcome: "gone" }))];
  const refused = seen.find((one) => one.outcome !== "replaced") ?? (run.length && !kernel && { outcome: "unable", id: "" });
  const written = refused ? [] : seen.filter((one) => one.cell.sharedModel.getSource() !== one.after);
  for (const one of written) one.cell.sharedModel.setSource(one.after);
  model.send({ number, outcome: refused?.outcome ?? "replaced", id: refused?.id ?? "" });
  if (!refused) for (const id of run) if (!(await runs(kernel, found.get(id)))) return;
}

// ipywidgets marks what a restarted kernel left behind; of one that was shut down or changed for another it says nothing.
function tellWhenGone(model) {
  const session = model.widget_manager?.context?.sessionContext;
  const ours = session?.session?.kernel?.id;
  const style = document.createElement("style");
  style.textContent = model.get("gone");
  session?.kernelChanged.connect((_, { newValue }) => (newValue?.id === ours ? style.remove() : document.head.append(style)));
}

function initialize({ model }) {
  document.addEventListener("click", remember, true);
  tellWhenGone(model);
  model.on("change:request", () => answer(model));
  answer(model);
  if (cellsOf(model.widget_manager?.context)) model.send({ able: true });
  return () => document.removeEventListener("click", remember, true);
}

export default { initialize };
