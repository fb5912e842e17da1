/** Entry point of the page. */
import '@xterm/xterm/css/xterm.css';
import 'uplot/dist/uPlot.min.css';
import './style.css';
import { render } from 'preact';
import { App } from './app.tsx';
import { connect } from './connection.ts';

connect();
render(<App />, document.body);
