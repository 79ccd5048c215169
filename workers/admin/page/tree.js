// What is to be seen, as a tree of plain objects, and how the document is made to agree with it.
//
// Views are drawn anew every few seconds. Only what differs is touched, so that focus, selection, what is
// typed and where somebody has scrolled to stay as they are. Text becomes text nodes and never markup:
// a reply or a subject that looks like HTML is shown as it was written.

const SVG = "http://www.w3.org/2000/svg";
const KEY = Symbol("key"); // of an element among its siblings
const HEARD = Symbol("heard"); // the listeners of an element, by event
const VALUE = Symbol("value"); // what a field was told to hold
const WIDGET = Symbol("widget"); // the object that draws an element's inside itself

/**
 * Return a node. `props`: attributes, and besides them
 *   key       tells siblings apart that may move
 *   vars      CSS custom properties (a style attribute would be against the page's policy)
 *   onclick … listeners, by the names of their events
 *   widget    a class whose object draws the inside: new widget(element), then show(props.data)
 * Of `children`, null, false and "" are left out; arrays are laid open.
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter(isShown) };
}

/** Make the inside of an element agree with nodes. */
export function render(element, ...nodes) {
  agree(element, nodes.flat(Infinity).filter(isShown), "");
}

function isShown(child) {
  return child !== null && child !== undefined && child !== false && child !== "";
}

function agree(parent, wanted, space) {
  const keyed = new Map();
  const free = [];
  for (const node of parent.childNodes) {
    if (node[KEY] === undefined) free.push(node);
    else keyed.set(node[KEY], node);
  }
  let cursor = parent.firstChild;
  for (const item of wanted) {
    const node = update(find(item, keyed, free), item, space);
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
  }
  while (cursor !== null) {
    const next = cursor.nextSibling;
    drop(cursor);
    cursor = next;
  }
}

/** Return the node that is there already for an item, or null. */
function find(item, keyed, free) {
  const key = item?.props?.key;
  if (key !== undefined) {
    const node = keyed.get(key);
    return node !== undefined && fits(node, item) ? node : null;
  }
  // Those that do not fit stay for who comes later: what is inserted takes nothing from its neighbours.
  const at = free.findIndex((node) => fits(node, item));
  return at < 0 ? null : free.splice(at, 1)[0];
}

function fits(node, item) {
  if (typeof item !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === item.tag;
}

function update(node, item, space) {
  if (typeof item !== "object") {
    const text = String(item);
    if (node === null) return document.createTextNode(text);
    if (node.data !== text) node.data = text;
    return node;
  }
  const inner = item.tag === "svg" ? SVG : space;
  const element =
    node ?? (inner ? document.createElementNS(inner, item.tag) : document.createElement(item.tag));
  const { key, vars, widget, data, value, checked, ...rest } = item.props;
  if (key !== undefined) element[KEY] = key;
  setAttributes(element, rest);
  for (const [name, one] of Object.entries(vars ?? {})) element.style.setProperty(name, one);
  if (widget !== undefined) {
    if (!(element[WIDGET] instanceof widget)) element[WIDGET] = new widget(element);
    element[WIDGET].show(data);
  } else {
    agree(element, item.children, inner);
  }
  // Once, or what somebody types would be taken away; the options of a select must be there before.
  if (value !== undefined && element[VALUE] !== value) element.value = element[VALUE] = value;
  if (checked !== undefined) element.checked = checked;
  return element;
}

function setAttributes(element, wanted) {
  const heard = (element[HEARD] ??= {});
  for (const name of Object.keys(heard)) if (!(`on${name}` in wanted)) heard[name] = null;
  for (const { name } of [...element.attributes]) {
    if (!(name in wanted) && name !== "style" && name !== "open") element.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(wanted)) {
    if (name.startsWith("on")) listen(element, heard, name.slice(2), value);
    else if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else {
      const text = value === true ? "" : String(value);
      if (element.getAttribute(name) !== text) element.setAttribute(name, text);
    }
  }
}

function listen(element, heard, name, listener) {
  if (!(name in heard)) element.addEventListener(name, (event) => heard[name]?.(event));
  heard[name] = listener;
}

function drop(node) {
  if (node.nodeType === Node.ELEMENT_NODE) {
    for (const one of [node, ...node.querySelectorAll("*")]) one[WIDGET]?.end?.();
  }
  node.remove();
}
