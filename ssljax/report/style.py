"""The page's style sheet: one column on a phone, panels side by side where there is room."""

CSS = """
:root {
  color-scheme: light dark;
  --font: system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif;
  --paper: #fff; --card: #f6f7f9; --ink: #1b1f24; --muted: #626b77; --line: #dfe3e8;
  --accent: #2563c9; --good: #1a7f4b; --bad: #c2410c; --warn: #fff4e0; --calm: #e9f6ee;
  --shade: 37 99 201;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #13161a; --card: #1c2026; --ink: #e6e9ed; --muted: #99a3af; --line: #323943;
    --accent: #7fb0ff; --good: #5cc98d; --bad: #ff9a5c; --warn: #3a2a10; --calm: #14301f;
    --shade: 127 176 255;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 var(--font); -webkit-text-size-adjust: 100%; }
main { max-width: 1040px; margin: 0 auto; padding: 28px 16px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 12px; }
h3 { font-size: .9rem; font-weight: 600; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 0 0 10px; }
section { margin-top: 40px; }
.about, figcaption, .note, tbody th .note { color: var(--muted); }
.about { margin: 6px 0 0; }
.verdict { font-size: 1.2rem; line-height: 1.4; margin: 20px 0; padding-left: 14px;
  border-left: 4px solid var(--muted); }
.verdict.good { border-color: var(--good); }
.verdict.bad { border-color: var(--bad); }
.cards { display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(126px, 1fr)); }
.card { background: var(--card); border-radius: 10px; padding: 10px 12px; }
.card b { display: block; font-size: 1.05rem; line-height: 1.5; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.card span { color: var(--muted); font-size: .85rem; }
.doctor { border-radius: 10px; padding: 12px 16px; margin: 0; background: var(--calm); }
.doctor.warn { background: var(--warn); }
.doctor li { margin: 4px 0; }
ul.doctor { padding-left: 34px; }
figure { margin: 0 0 24px; }
figcaption { font-size: .9rem; margin-top: 8px; max-width: 70ch; }
.note { font-size: .8rem; margin: 0 0 4px; }
.panels { display: grid; gap: 20px 24px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr)); }
.panel { min-width: 0; }
svg { display: block; width: 100%; height: auto; overflow: visible; stroke-linejoin: round; }
.map .panels { grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.map .panel { max-width: 496px; }
.map svg { background: var(--card); border-radius: 10px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: .85rem; margin-top: 10px; }
.legend i { display: inline-block; width: .75em; height: .75em; border-radius: 50%;
  margin-right: .4em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 14px 6px 0; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { font-size: .85rem; color: var(--muted); font-weight: 500; }
tbody th { color: var(--ink); font-size: 1rem; }
.probes { width: 100%; max-width: 720px; }
.probes th, .probes td { width: 25%; }
td.bar, td.best { white-space: nowrap; }
td.bar { background: linear-gradient(rgb(var(--shade) / .25) 0 0) no-repeat
  0 100% / var(--v) 5px; }
td.best { font-weight: 700; }
td.best::after { content: ' ★'; color: var(--accent); }
.confusion td, .confusion th { padding: 4px 5px; text-align: center; border: 0; font-size: .8rem; }
.confusion tbody th { text-align: right; white-space: nowrap; }
.confusion td { background: rgb(var(--shade) / var(--a)); min-width: 2.3em; border-radius: 3px; }
.confusion thead th:not(:first-child) { writing-mode: vertical-rl; transform: rotate(180deg);
  text-align: left; padding: 5px 0; margin: auto; }
.tiles { display: grid; gap: 6px 18px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--n) * 72px), 1fr)); }
.tiles + h3 { margin-top: 14px; }
.row { display: grid; gap: 3px; grid-template-columns: repeat(var(--n), minmax(0, 100px)); }
.row img { display: block; width: 100%; border-radius: 4px; }
.row .pixels { image-rendering: pixelated; }
.row .query { border: 3px solid var(--ink); }
.row .same { border: 3px solid var(--good); }
.row .other { border: 3px dashed var(--bad); }
details summary { cursor: pointer; padding: 6px 0; }
code { font: .85em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.facts th { width: 9.5em; }
@media (max-width: 480px) {
  h1 { font-size: 1.5rem; }
  .cards { grid-template-columns: 1fr 1fr; }
  .row .query, .row .same, .row .other { border-width: 2px; }
  .confusion td, .confusion th { font-size: .7rem; padding: 4px 1px; }
  .confusion td { min-width: 2.1em; }
}
"""
