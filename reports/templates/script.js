"use strict";
for (const slider of document.querySelectorAll(".cut input")) {
  const move = () => slider.closest(".shot").style.setProperty("--cut", slider.value + "%");
  slider.addEventListener("input", move);
  move();
}
const left = document.getElementById("left"), right = document.getElementById("right");
function choose() {
  for (const picture of document.querySelectorAll(".compare img")) {
    const number = picture.dataset.weights;
    picture.hidden = number !== left.value && number !== right.value;
    picture.toggleAttribute("data-over", number === right.value && right.value !== left.value);
  }
  for (const name of document.querySelectorAll("[data-names]")) {
    name.textContent = (name.dataset.names === "left" ? left : right).selectedOptions[0].textContent;
  }
}
if (left && right) {
  left.addEventListener("change", choose);
  right.addEventListener("change", choose);
  choose();
}
