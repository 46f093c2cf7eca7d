// Every client reports each message of its library to the test, as a line of JSON.

export const url = process.argv[2];

// A library may let its process end while it waits to connect again. The pipe from the test keeps the process, and ends it.
process.stdin.resume().on("end", () => process.exit(1));

export function tell(data, id) {
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    process.stdout.write(JSON.stringify({ broken: String(data) }) + "\n");
    return;
  }
  process.stdout.write(JSON.stringify({ message, id }) + "\n");
  if (message.last) {
    process.exit(0);
  }
}
