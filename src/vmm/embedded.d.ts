/** Files that the bundler puts into the executable: importing one gives its path. */
declare module '*.elf' {
  const path: string;
  export default path;
}

/** Its text. */
declare module '*.txt' {
  const text: string;
  export default text;
}

declare module '*.htm' {
  const path: string;
  export default path;
}
