#!/usr/bin/env node
// Runs the program of this platform, and ends as it ends.
import { spawn } from "node:child_process";
import { program } from "./program.js";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
const child = spawn(program(), process.argv.slice(2), { stdio: "inherit" });
// A terminal sends SIGINT to the program too. The launcher waits for its end.
for (const signal of SIGNALS) process.on(signal, () => signal === "SIGINT" && process.stdin.isTTY || child.kill(signal));
child.on("error", (error) => {
  console.error(`error: cannot run the program: ${error.message}`);
  process.exit(126);
});
child.on("exit", (code, signal) => {
  if (!signal) process.exit(code);
  for (const own of SIGNALS) process.removeAllListeners(own);
  process.kill(process.pid, signal);
});
