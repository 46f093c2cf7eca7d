"""A table from a database that is the same in all windows: rows appear, change and vanish.

Each commit publishes the rows that it has changed (``mercure.broadcasts``), and the page puts them into its table. The
stream begins at the cursor that was read before the page's query (MERCURE_LAST_EVENT_ID_IN_URLS): no change is lost
that is committed while the page loads.

Run it with ``python examples/live_table.py`` (needs: pip install flask-sqlalchemy). HOST and PORT are read from the
environment. The database is ``instance/live_table.db``.

Try: two windows. Change a row in one, and see it change in the other. Stop the server and start it again.
"""

import os
from typing import Final

from flask import Flask, render_template_string, request
from flask.typing import ResponseReturnValue
from flask_sqlalchemy import SQLAlchemy
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.update(
    SQLALCHEMY_DATABASE_URI="sqlite:///live_table.db",
    MERCURE_HUB=True,
    MERCURE_LAST_EVENT_ID_IN_URLS=True,
)
db = SQLAlchemy(app)
mercure = MercureSSE(app)

TOPIC: Final = "/products"


ROW: Final = """
<tr id="product-{{ product.id }}">
  <th scope="row">{{ product.name }}</th>
  <td class="number">{{ product.stock }}</td>
  <td>
    <form class="row buttons" method="post" action="products/{{ product.id }}">
      <button class="quiet small" name="add" value="-1" aria-label="{{ product.name }}: one less">&minus;</button>
      <button class="quiet small" name="add" value="1" aria-label="{{ product.name }}: one more">+</button>
      <button class="quiet small" name="delete" aria-label="{{ product.name }}: delete">Delete</button>
    </form>
  </td>
</tr>
"""


def row(product: "Product") -> str:
    """The HTML of a row: for the page, and for an update."""
    return render_template_string(ROW, product=product)


@mercure.broadcasts(topic=TOPIC, data=row)
class Product(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    stock: Mapped[int] = mapped_column(default=0)


@app.get("/")
def index() -> ResponseReturnValue:
    rows = Markup("").join(map(Markup, map(row, db.session.scalars(select(Product).order_by(Product.id)))))
    return render_template_string(PAGE, rows=rows, topic=TOPIC)


@app.post("/products")
def add() -> ResponseReturnValue:
    name = request.form.get("name", "").strip()
    if not 0 < len(name) <= 60:
        return "A name has 1 to 60 characters.", 400
    db.session.add(Product(name=name, stock=10))
    db.session.commit()  # publishes the new row
    return "", 204


@app.post("/products/<int:id>")
def change(id: int) -> ResponseReturnValue:
    product = db.get_or_404(Product, id, description="This row is gone.")
    if "delete" in request.form:
        db.session.delete(product)
    else:
        product.stock = max(0, product.stock + request.form.get("add", 0, int))
    db.session.commit()
    return "", 204


PAGE: Final = """
{% extends "base.html" %}
{% block title %}A live table{% endblock %}
{% block try %}
Two windows: change a row in one. Stop the server, start it again, and change another.
{% endblock %}
{% block content %}
<div class="card stack">
  <table>
    <thead><tr><th scope="col">Product</th><th scope="col" class="number">In stock</th><th scope="col">
      <span class="hidden">Change</span></th></tr></thead>
    <tbody>{{ rows }}</tbody>
  </table>
  <p id="said" class="note" role="status"></p>
  <p id="error" class="error" role="alert"></p>
  <form class="row" method="post" action="products">
    <label class="grow">New product <input name="name" maxlength="60" required autocomplete="off"></label>
    <button>Add</button>
  </form>
</div>
<script type="module">
import { subscribe } from "petasos-client";

const table = document.querySelector("tbody"), said = document.getElementById("said");
const news = subscribe("{{ mercure_hub_url(topic) }}", [], { onState: showState });
news.on("insert", put);
news.on("update", put);
news.on("delete", (event) => {
  const gone = document.getElementById(`product-${event.json().id}`);
  if (!gone) return;
  said.textContent = `${gone.cells[0].textContent} was deleted`;
  if (gone.contains(document.activeElement)) document.querySelector("[name=name]").focus();
  gone.remove();
});

// A row that the page has already is replaced: an update from the time while the page was made is in both.
function put(event) {
  const made = document.createElement("template");
  made.innerHTML = event.data;
  const row = made.content.querySelector("tr"), old = document.getElementById(row.id);
  const focused = old?.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
  row.className = "changed";
  if (old) old.replaceWith(row);
  else table.append(row);
  row.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
  said.textContent = `${row.cells[0].textContent}: ${row.cells[1].textContent} in stock`;
}

// Nothing is shown here: the change comes back with the stream, as it does in all windows.
document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { target: form, submitter } = event;
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form, submitter) }).catch(() => null);
  if (answer?.ok && form.name) form.reset();
  const problem = answer ? `${answer.status} ${answer.statusText}` : "the server cannot be reached";
  document.getElementById("error").textContent = answer?.ok ? "" : `Not saved: ${problem}`;
});
</script>
{% endblock %}
"""


with app.app_context():
    db.create_all()
    if db.session.scalar(select(Product).limit(1)) is None:
        db.session.add_all(Product(name=name, stock=10) for name in ("Walden", "Cape Cod", "The Maine Woods"))
        db.session.commit()


if __name__ == "__main__":
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000")))
