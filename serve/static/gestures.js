// Mouse, pen and fingers on a picture: pan, zoom, move through slices, measure.

const STEP_PX = 12; // of a drag, a slice
const WHEEL_PX = 30; // of a wheel or a touch pad, a slice

function apart([a, b]) {
  return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
}

function fromMiddle(stage, { clientX, clientY }) {
  const box = stage.getBoundingClientRect();
  return { x: clientX - box.left - box.width / 2, y: clientY - box.top - box.height / 2 };
}

/** Let pointers on `stage` work a viewer. */
export function pointers(stage, viewer) {
  const down = new Map();
  let left = 0; // what a drag has not yet used up

  stage.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, event);
    left = 0;
    if (down.size === 1 && viewer.ruler.active) viewer.ruler.down(viewer.placeOf(event));
  });

  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse") viewer.point(event);
    if (viewer.ruler.active && down.size < 2) return viewer.ruler.move(viewer.placeOf(event));
    const before = down.get(event.pointerId);
    if (!before) return;
    if (down.size === 2) pinch(before, event);
    else drag(before, event);
    down.set(event.pointerId, event);
  });

  function pinch(before, event) {
    const was = apart([...down.values()]);
    down.set(event.pointerId, event);
    const [a, b] = [...down.values()];
    const middle = { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
    if (was > 0) viewer.zoomBy(apart([a, b]) / was, fromMiddle(stage, middle));
  }

  function drag(before, event) {
    const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (viewer.zoom > 1 || !viewer.onStep) return viewer.pan(x, y);
    left += event.pointerType === "touch" ? x : y; // a finger that moves up scrolls the page
    const steps = Math.trunc(left / STEP_PX);
    if (steps) viewer.onStep(steps);
    left -= steps * STEP_PX;
  }

  for (const type of ["pointerup", "pointercancel"]) {
    stage.addEventListener(type, (event) => {
      if (viewer.ruler.active && down.size === 1) viewer.ruler.up(viewer.placeOf(event));
      down.delete(event.pointerId);
    });
  }

  let turned = 0;
  stage.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (event.ctrlKey || !viewer.onStep) {
        return viewer.zoomBy(Math.exp(-event.deltaY / 400), fromMiddle(stage, event));
      }
      turned += event.deltaMode === 0 ? event.deltaY : WHEEL_PX * event.deltaY;
      const steps = Math.trunc(turned / WHEEL_PX);
      if (steps) viewer.onStep(Math.sign(steps));
      turned -= steps * WHEEL_PX;
    },
    { passive: false },
  );
  stage.addEventListener("dblclick", (event) => {
    if (viewer.ruler.active) return;
    if (viewer.zoom > 1) viewer.setFit();
    else viewer.zoomBy(2.5, fromMiddle(stage, event));
  });
}
