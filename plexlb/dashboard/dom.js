// What every part of the page needs to change it. Nothing here, nor anywhere
// else, reads text as markup: titles and names are what strangers say.

const templates = new Map();

// stamp makes a copy of a <template>: its element, and the elements in it by
// their data-part.
export function stamp(id) {
  let template = templates.get(id);
  if (!template) {
    template = document.getElementById(id).content.firstElementChild;
    templates.set(id, template);
  }
  const root = template.cloneNode(true);
  return { root, parts: partsOf(root) };
}

export function partsOf(root) {
  const parts = {};
  for (const node of root.querySelectorAll("[data-part]")) {
    parts[node.dataset.part] = node;
  }
  return parts;
}

// el makes an element. Its children are elements, or text.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    attr(node, name, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}

// text changes what an element that holds only text says. It keeps the text
// node, and with it what the reader has selected elsewhere.
export function text(node, value) {
  const first = node.firstChild;
  if (!first) {
    node.append(String(value));
  } else if (first.data !== String(value)) {
    first.data = value;
  }
}

// attr sets an attribute; null, undefined and false take it away.
export function attr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const want = value === true ? "" : String(value);
  if (node.getAttribute(name) !== want) node.setAttribute(name, want);
}

// show shows an element, or hides it.
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

// List keeps the children of an element in step with a list of things, by their
// keys: it makes, moves and removes only what has to be.
export class List {
  #items = new Map();

  // key(thing) is a string; make(thing) is an object with the element as root;
  // update(object, thing) brings it up to date.
  constructor(parent, { key, make, update }) {
    Object.assign(this, { parent, key, make, update });
  }

  get(key) {
    return this.#items.get(key);
  }

  values() {
    return this.#items.values();
  }

  show(things) {
    const wanted = new Map(things.map((thing) => [this.key(thing), thing]));
    for (const [key, item] of this.#items) {
      if (!wanted.has(key)) {
        item.root.remove();
        this.#items.delete(key);
      }
    }
    const focused = document.activeElement;
    let next = this.parent.firstElementChild;
    for (const [key, thing] of wanted) {
      let item = this.#items.get(key);
      if (!item) {
        item = this.make(thing);
        this.#items.set(key, item);
      }
      if (item.root === next) {
        next = next.nextElementSibling;
      } else {
        this.parent.insertBefore(item.root, next);
      }
      this.update(item, thing);
    }
    refocus(focused);
  }

  clear() {
    this.show([]);
  }
}

// refocus gives an element the focus back that it lost by being moved.
export function refocus(node) {
  if (node !== document.activeElement && node?.isConnected && node !== document.body) {
    node.focus({ preventScroll: true });
  }
}

// link is the address of a playback's explanation on this page.
export function link(session) {
  return "#session=" + encodeURIComponent(session);
}

// address is that of something beside the page. Made from what does not hold a
// user's name and password: fetch refuses addresses that do.
export function address(name) {
  return new URL(name, location.origin + location.pathname);
}
