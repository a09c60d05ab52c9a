// Node with fetch, a line for each URL. With NODE_USE_ENV_PROXY=1 it looks for a proxy in the environment, and makes tunnels for all.
for (const url of process.argv.slice(2)) {
  let said = "";
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(10_000) });
    said = `${answer.status} ${await answer.text()}`;
  } catch (error) {
    for (let cause = error; cause; cause = cause.cause) said += `${cause.message} `;
  }
  console.log(url, said.replaceAll("\n", " "));
}
