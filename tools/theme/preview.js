// Theme, menu, search and the place on the page: all that the preview does by itself.
const html = document.documentElement, root = html.dataset.root, by = id => document.getElementById(id);

by("theme").onclick = () => {
  html.dataset.theme = html.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("theme", html.dataset.theme); } catch {}
};

by("menu").onclick = () => {
  const open = document.body.classList.toggle("menu");
  by("menu").setAttribute("aria-expanded", open);
};

const input = by("search"), found = by("found");
let loading = null;
const load = () => loading ??= new Promise((done, fail) => {
  const script = document.createElement("script");
  script.src = root + "search.js";
  script.onload = () => done(window.searchIndex);
  script.onerror = fail;
  document.head.append(script);
});

const score = (entry, words) => {
  let sum = 0;
  for (const word of words) {
    const at = ["title", "section", "text"].map(k => entry[k].toLowerCase().indexOf(word));
    if (Math.max(...at) < 0) return 0;
    sum += (at[0] >= 0) * 6 + (at[1] >= 0) * 8 + (at[2] >= 0) + (entry.section.toLowerCase() === word) * 20
      + (entry.title.toLowerCase() === word) * 10;
  }
  return sum;
};

const line = (entry, words) => {
  const a = document.createElement("a"), head = document.createElement("b"), text = document.createElement("span");
  const at = Math.max(0, entry.text.toLowerCase().indexOf(words[0]) - 40);
  a.href = root + entry.href;
  head.textContent = entry.section ? entry.title + " › " + entry.section : entry.title;
  for (const part of entry.text.slice(at, at + 130).split(new RegExp("(" + words.map(
    w => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|") + ")", "giu"))) {
    const node = document.createElement(words.includes(part.toLowerCase()) ? "mark" : "span");
    node.textContent = part;
    text.append(node);
  }
  a.append(head, text);
  const item = document.createElement("li");
  item.append(a);
  return item;
};

const find = async () => {
  const words = input.value.toLowerCase().split(/\s+/).filter(w => w);
  found.hidden = !words.length;
  if (!words.length) return;
  const hits = (await load()).map(e => [score(e, words), e]).filter(h => h[0]).sort((a, b) => b[0] - a[0]).slice(0, 20);
  found.replaceChildren(...hits.map(h => line(h[1], words)));
  if (!hits.length) found.innerHTML = "<li class='none'>Nothing found</li>";
};
input.oninput = find;
input.onfocus = () => { load(); find(); };
document.addEventListener("keydown", e => {
  const typing = /^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (e.key === "/" && !typing) { e.preventDefault(); document.body.classList.add("menu"); input.focus(); }
  if (e.key === "Escape") { found.hidden = true; document.body.classList.remove("menu"); }
  if (e.key === "Enter" && document.activeElement === input) found.querySelector("a")?.click();
});
document.addEventListener("click", e => { if (!e.target.closest(".search")) found.hidden = true; });

const links = new Map([...document.querySelectorAll("#toc a")].map(a => [decodeURIComponent(a.hash.slice(1)), a]));
const heads = [...document.querySelectorAll("article h2[id], article h3[id]")].filter(h => links.has(h.id));
const here = () => {
  const now = heads.filter(h => h.getBoundingClientRect().top < 120).pop();
  links.forEach((a, id) => a.classList.toggle("here", id === now?.id));
};
addEventListener("scroll", here, {passive: true});
here();
document.querySelector("#sidebar .current")?.scrollIntoView({block: "nearest"});
