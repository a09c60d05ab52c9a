// Node with http.get and https.get, a line for each URL. With NODE_USE_ENV_PROXY=1 they look for a proxy in the environment.
import http from "node:http";
import https from "node:https";

function get(url) {
  const client = url.startsWith("https:") ? https : http;
  return new Promise((resolve) => {
    const request = client.get(url, { timeout: 10_000 }, async (answer) => {
      resolve(`${answer.statusCode} ${(await answer.toArray()).join("")}`);
    });
    request.on("timeout", () => request.destroy(new Error("timeout")));
    request.on("error", (error) => resolve(`${error.statusCode ?? ""} ${error.message}`));
  });
}

for (const url of process.argv.slice(2)) {
  console.log(url, (await get(url)).replaceAll("\n", " "));
}
