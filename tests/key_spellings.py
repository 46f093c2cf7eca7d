"""Keys that are no shared secrets, in the spellings in which people give them as one."""

import base64
import json
from pathlib import Path
from urllib.parse import quote

KEYS = Path(__file__).parents[1] / "crates" / "auth" / "tests" / "keys"


def pem(name: str) -> str:
    """A document of the Rust tests: OpenSSL made them."""
    return (KEYS / name).read_text()


def spellings(document: str) -> dict[str, str | bytes]:
    """The content of a PEM document, by the name of its spelling."""
    lines = [line for line in document.splitlines() if "-" not in line]
    line = "".join(lines)
    der = base64.b64decode(line)
    hexadecimal = der.hex()
    of_document = base64.b64encode(document.encode()).decode()
    url = base64.urlsafe_b64encode(der).decode()
    return {
        "lines": "\n".join(lines),
        "lines with CRLF": "\r\n".join(lines),
        "one line": line,
        "without padding": line.rstrip("="),
        "base64url": url,
        "base64url without padding": url.rstrip("="),
        "white space around": f" \n\t{line}\n\n",
        "white space within": " ".join(line[at : at + 7] for at in range(0, len(line), 7)),
        "a byte order mark": f"\ufeff{line}",
        "quotes": f'"{line}"',
        "bytes as Python shows them": repr(line.encode()),
        "written line breaks": "\\n".join(lines),
        "written CRLF": "\\r\\n".join(lines),
        "a data URL": f"data:application/octet-stream;base64,{line}",
        "a prefix": f"base64:{line}",
        "JSON": json.dumps({"x5c": [line]}),
        "words for armour": "BEGIN KEY\n" + "\n".join(lines) + "\nEND KEY",
        "percent-encoding": quote(line, safe=""),
        "base64 twice": base64.b64encode(line.encode()).decode(),
        "base64 three times": base64.b64encode(base64.b64encode(line.encode())).decode(),
        "base64 of the document": of_document,
        "base64 of the document, wrapped": base64.encodebytes(document.encode()).decode(),
        "base64 of the document twice": base64.b64encode(of_document.encode()).decode(),
        "hex": hexadecimal,
        "hex in capitals": hexadecimal.upper(),
        "hex with colons": der.hex(":"),
        "hex of the document": document.encode().hex(),
        "escapes": "".join(f"\\x{byte:02x}" for byte in der),
        "bytes as numbers": str(list(der)),
        "DER": der,
        "DER and a line break": der + b"\n",
        "DER as characters": der.decode("latin-1"),
        "bytes of base64": line.encode(),
        "UTF-16": document.encode("utf-16"),
    }
