// Light or dark: as the system has it, or as chosen here and kept for the next visit.
const KEY = "nas-codec-theme", SYSTEM = "system";
function keptTheme() { // some browsers keep nothing for files
  try { return localStorage.getItem(KEY); } catch (error) { return null; }
}
function keepTheme(name) {
  try { localStorage.setItem(KEY, name); } catch (error) { /* then it holds until the page is left */ }
}
function useTheme(name) {
  if (name === SYSTEM) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}
const themes = all("[name=theme]"), begun = themes.find(input => input.value === keptTheme());
if (begun) {
  begun.checked = true;
  useTheme(begun.value);
}
themes.forEach(input => input.addEventListener("change", () => {
  useTheme(input.value);
  keepTheme(input.value);
}));
