// Sets the chosen theme before anything is painted. Without a choice the system's own applies.
(() => {
  const chosen = localStorage.getItem("embedllm-theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
