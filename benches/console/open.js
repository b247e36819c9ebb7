// Opens a screen of the console in Chromium, and prints what it costs as one line of JSON:
// node open.js <HTTP endpoint> <control token> <screen> <selector of a line> <lines>
import { createRequire } from "node:module";
import { join } from "node:path";

// The packages of the browser's tests.
const require = createRequire(join(import.meta.dirname, "../../tests/clients/browser/package.json"));
const { chromium } = require("playwright-core");

const MEGABYTE = 2 ** 20;
const [endpoint, token, screen, selector, lines] = process.argv.slice(2);
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.goto(`${endpoint}_local/#k=${token}`);
await page.locator("#connection-text", { hasText: "connected" }).waitFor();
// The second opening has the token in the storage of the tab, and no cache, because the server forbids one.
await page.goto(`${endpoint}_local/#${screen}`);
await page.reload();
await page.waitForFunction(
  ([selector, lines]) => document.querySelectorAll(selector).length >= lines,
  [selector, Number(lines)],
);
const [painted, filled] = await page.evaluate(() => [
  performance.getEntriesByName("first-contentful-paint")[0].startTime,
  performance.now(),
]);
const session = await page.context().newCDPSession(page);
await session.send("HeapProfiler.collectGarbage");
const { usedSize } = await session.send("Runtime.getHeapUsage");
console.log(JSON.stringify({ painted, filled, heap: usedSize / MEGABYTE }));
await browser.close();
