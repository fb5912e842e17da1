/** Files that the bundler puts into the executable: importing one gives its path. */
declare module '*.elf' {
  const path: string;
  export default path;
}

declare module '*.htm' {
  const path: string;
  export default path;
}
