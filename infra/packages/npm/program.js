// Finds the program in the optional package of this platform.
import { createRequire } from "node:module";

export function program() {
  const name = `@acs-identity/${process.platform}-${process.arch}`;
  try {
    return createRequire(import.meta.url).resolve(`${name}/acs-identity`);
  } catch {
    throw new Error(`the package ${name} is not installed; reinstall acs-identity with optional dependencies, on Linux with x64 or arm64`);
  }
}
