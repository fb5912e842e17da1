/** Entry point of the `volt` executable: looks at the environment before anything else is loaded. */
import './environment.ts';

// Not a static import: the bundler would run what other entry points use too before the line above.
const { main } = await import('./program.ts');
await main();
