/**
 * Lint rules for tests under `bun:test`. The linter's own Jest rules look for Jest's imports, and the matchers of
 * `bun:test` are declared to return void, so that no type-aware rule sees a promise in `expect(…).rejects`.
 */

/** @param node `expect(…).rejects.toThrow()`, or part of it */
function matchesPromise(node) {
  if (node.type === 'CallExpression') return matchesPromise(node.callee);
  if (node.type !== 'MemberExpression' || node.computed) return false;
  return ['rejects', 'resolves'].includes(node.property.name) || matchesPromise(node.object);
}

const awaitPromiseMatchers = {
  create: (context) => ({
    ExpressionStatement({ expression }) {
      if (expression.type !== 'CallExpression' || !matchesPromise(expression)) return;
      context.report({
        node: expression,
        message: 'Await this: the test ends before the promise is checked.',
      });
    },
  }),
};

export default {
  meta: { name: 'bun-test' },
  rules: { 'await-promise-matchers': awaitPromiseMatchers },
};
