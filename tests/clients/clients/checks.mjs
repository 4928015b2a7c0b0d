// What checks.py is for Python: the facts, and the one way to tell what a client found.
import { readFileSync } from "node:fs";

export const URL_ROOT = process.env.HELEXA_TEST_URL;
export const BASE_URL = `${URL_ROOT}/v1`;
export const KEY = process.env.HELEXA_TEST_KEY;
export const MODEL = "helexa-demo";
export const VISION = "helexa-demo-vision";
export const EMBEDDER = "tiny-embed-f32";
export const QUESTION = "What is helexa?";
export const ANSWER =
  "helexa is a federated AI fabric: machines that run models join together and are used " +
  "through one API.";
export const CITY = "Paris";
export const CITY_QUESTION = "What is the weather in Paris?";
export const WEATHER = "17 C, fog";
export const TOOL_ABOUT = "Get current weather for a location.";
export const PARAMETERS = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
};
export const PICTURE = readFileSync(process.env.HELEXA_TEST_PICTURE).toString("base64");
export const SEEN = process.env.HELEXA_TEST_SEEN;

const checks = [];

export function check(surface, features, name, body) {
  checks.push({ surface, features, name, body });
}

// The promise ends with that class of error, and with that status.
export async function refused(kind, status, promise) {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof kind)) throw error;
    const told = error.status ?? error.statusCode;
    if (told !== status) throw new Error(`${told} and not ${status}: ${error}`);
    return error;
  }
  throw new Error(`nothing was thrown where ${kind.name} should have been`);
}

export async function run(packages) {
  for (const { surface, features, name, body } of checks) {
    const told = { check: name, surface, features };
    try {
      await body();
    } catch (error) {
      told.failed = String(error?.stack ?? error).slice(0, 3000);
    }
    console.log(JSON.stringify(told));
  }
  const versions = {};
  for (const name of packages) {
    const about = new URL(`../node_modules/${name}/package.json`, import.meta.url);
    versions[name] = JSON.parse(readFileSync(about)).version;
  }
  console.log(JSON.stringify({ versions }));
}
