/**
 * Circles in a graph of names: each group of names that lead to each other, sorted, and each name that leads to itself.
 * Edges to names that are no keys are ignored. (R. Tarjan, "Depth-first search and linear graph algorithms", 1972)
 */
export function findCircles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const order = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const circles: string[][] = [];
  const visit = (name: string): void => {
    order.set(name, order.size);
    low.set(name, order.get(name)!);
    stack.push(name);
    for (const target of graph.get(name)!) {
      if (!graph.has(target)) continue;
      if (target === name) circles.push([name]);
      if (!order.has(target)) visit(target);
      if (stack.includes(target)) low.set(name, Math.min(low.get(name)!, low.get(target)!));
    }
    if (low.get(name) !== order.get(name)) return;
    const group = stack.splice(stack.indexOf(name));
    if (group.length > 1) circles.push(group.sort());
  };
  for (const name of graph.keys()) if (!order.has(name)) visit(name);
  return circles;
}
