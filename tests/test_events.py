"""Events with a type: classes that say what their data is."""

import json
import subprocess
import sys
import types
from dataclasses import dataclass, field, make_dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, ClassVar, Generic, Literal, NewType, Optional, TypedDict, TypeVar, Union
from uuid import UUID

import pytest
import typing_extensions
from flask import Flask
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    computed_field,
    field_serializer,
    model_serializer,
)
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

import client_package
import npm
from documents import Document
from flask_mercure_sse import InvalidUpdateError, MercureSSE

WHEN, ID = datetime(2024, 2, 29, 12, tzinfo=timezone.utc), UUID(int=7)
Key = NewType("Key", int)


class Colour(Enum):
    RED, BLUE = "red", "blue"


class Level(IntEnum):
    LOW = 1


@dataclass
class Line:
    name: str
    price: Decimal


class Extra(TypedDict):
    note: typing_extensions.NotRequired[str]
    seen: typing_extensions.ReadOnly[typing_extensions.NotRequired[bool]]
    weight: float


@dataclass
class Node:
    """A tree: its annotation names the class itself."""

    children: "list[Node]"


@dataclass
class Order:
    kind: ClassVar[str] = "an order"
    id: int
    customer: str
    lines: list[Line]
    paid: bool = False
    total: float = 0
    key: Key = Key(1)
    uuid: UUID = ID
    when: datetime = WHEN
    day: date | None = None
    colour: Colour = Colour.RED
    level: Level = Level.LOW
    state: Literal["new", "old", 3] = "new"
    tags: dict[str, int] = field(default_factory=dict)
    pair: tuple[int, str] = (1, "a")
    many: tuple[int, ...] = ()
    either: Union[int, Optional[str]] = None  # noqa: UP007, UP045
    noted: Annotated[str, "a note"] = ""
    extra: Extra = field(default_factory=lambda: {"weight": 1})
    tree: Node | None = None
    anything: Any = None
    items: list = field(default_factory=list)
    same: "Line | None" = None


class Customer(BaseModel):
    name: str = Field(alias="customerName", default="Ada", max_length=50)
    since: datetime = WHEN
    birth: date | None = None
    level: Decimal = Decimal(1)
    secret: str = Field(exclude=True, default="secret")
    favourite: Colour = Colour.BLUE
    lines: list[Line] = []

    @computed_field
    @property
    def label(self) -> str:
        return f"{self.name}!"


class Joined(TypedDict):
    room: str
    user: int


@pytest.fixture
def app():
    app = Flask("events")
    app.testing = True
    return app


@pytest.fixture
def mercure(app):
    mercure = MercureSSE(app)
    mercure.event("order-paid")(Order)
    mercure.event("customer")(Customer)
    mercure.event("joined")(Joined)
    return mercure


@pytest.fixture
def updates(mercure, stack):
    return stack.enter_context(mercure.capture())


def order(**changed):
    return Order(**{"id": 1, "customer": "Ada", "lines": [Line("a", Decimal("9.50"))], **changed})


class TestPublishing:
    def test_the_class_says_the_type(self, mercure, updates):
        mercure.publish("/orders/1", order(tree=Node([Node([])]), colour=Colour.BLUE))
        mercure.publish("/customers/1", Customer())
        assert [update.type for update in updates] == ["order-paid", "customer"]
        written = updates[0].json()
        assert written["lines"] == [{"name": "a", "price": "9.50"}]
        assert (written["colour"], written["level"], written["uuid"]) == ("blue", 1, str(ID))
        assert written["tree"] == {"children": [{"children": []}]}
        assert written["when"] == "Thu, 29 Feb 2024 12:00:00 GMT", "as Flask writes it"
        assert updates[1].json() == {
            "name": "Ada",
            "since": "2024-02-29T12:00:00Z",
            "birth": None,
            "level": "1",
            "favourite": "blue",
            "lines": [],
            "label": "Ada!",
        }

    def test_a_type_that_is_given_wins(self, mercure, updates):
        mercure.publish("/orders/1", order(), type="other")
        mercure.publish("/orders/1", order(), type=True)
        mercure.publish("/orders/1", order(), type="")
        assert [update.type for update in updates] == ["other", "/orders/1", None]

    def test_the_type_of_the_class_comes_before_that_of_the_topic(self, app, stack):
        other = Flask("other")
        mercure = MercureSSE(other, type_is_topic=True)
        mercure.event("order-paid")(Order)
        updates = stack.enter_context(mercure.capture())
        mercure.publish("/a", order())
        mercure.publish("/a", {})
        assert [update.type for update in updates] == ["order-paid", "/a"]

    def test_every_way_of_publishing_knows_it(self, mercure, updates, stack):
        engine = create_engine("sqlite://")
        stack.callback(engine.dispose)
        mercure.publish_many([("/a", order()), {"topic": "/b", "data": lambda: order()}])
        with Session(engine) as session:
            mercure.publish("/c", order(), after_commit=session)
            mercure.publish("/d", lambda: order(), after_commit=session)
            session.commit()
        assert [(update.topic, update.type) for update in updates] == [(f"/{name}", "order-paid") for name in "abcd"]

    def test_an_event_may_be_published_alone(self, mercure, updates):
        @mercure.event("ended")
        @dataclass
        class Ended:
            job: int

            @property
            def __mercure_sse_topic__(self):
                return f"/jobs/{self.job}"

        mercure.publish(Ended(7))
        mercure.publish(order())
        assert [(update.topic, update.type) for update in updates] == [("/jobs/7", "ended"), ("Order", "order-paid")]
        assert updates[0].json() == {"job": 7}

    def test_what_an_object_says_itself_is_not_touched(self, mercure, updates):
        @mercure.event("brief")
        @dataclass
        class Brief:
            text: int

            def __mercure_sse_data__(self):
                return [self.text]

        mercure.publish("/a", Brief("no number"))
        assert (updates[0].type, updates[0].json()) == ("brief", ["no number"])

    def test_a_subclass_is_an_event_of_its_base(self, mercure, updates):
        @dataclass
        class Paid(Order):
            paid: bool = True

        mercure.publish("/a", Paid(1, "Ada", []))
        assert (updates[0].type, updates[0].json()["paid"]) == ("order-paid", True)

    def test_what_a_subclass_adds_is_not_published_by_chance(self, mercure, updates):
        @dataclass
        class Paid(Order):
            card_number: str = ""

        class Member(Customer):
            password: str = ""
            hidden: str = Field(exclude=True, default="")

        class Open(Customer):
            model_config = ConfigDict(extra="allow")

        @mercure.event("priced")
        @dataclass
        class Priced:
            line: Line

        @dataclass
        class Noted(Line):
            note: str = ""

        for data, message in (
            (Paid(1, "Ada", []), "Order: expected the fields of Order, and not a field 'card_number'"),
            (Member(), "Customer: expected the fields of Customer, and not a field 'password'"),
            (Open(password=1), "Customer: expected the fields of Customer, and not a field 'password'"),
            (Priced(Noted("a", Decimal(1))), "line: expected the fields of Line, and not a field 'note'"),
        ):
            with pytest.raises(InvalidUpdateError, match=message):
                mercure.publish("/a", data)
        assert updates == []

    def test_text_and_other_types_are_left_alone(self, mercure, updates):
        mercure.publish("/a", "text", type="order-paid")
        mercure.publish("/a", type="unknown")
        mercure.publish("/a", {"total": "x"}, type="unknown")
        mercure.publish("/a", [1])
        assert [update.data for update in updates] == ["text", "", '{"total": "x"}', "[1]"]

    def test_a_change_of_a_model_may_be_an_event(self, mercure, updates, stack):
        from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

        class Base(DeclarativeBase):
            pass

        class Member(Base):
            __tablename__ = "members"
            id: Mapped[int] = mapped_column(primary_key=True)

        mercure.broadcasts(Member, topic="/members", data=lambda member: order(id=member.id))
        engine = create_engine("sqlite://")
        stack.callback(engine.dispose)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            member = Member()
            session.add(member)
            session.commit()
            session.delete(member)
            session.commit()
        assert [(update.type, update.json()["id"]) for update in updates] == [("order-paid", 1), ("delete", 1)]


class TestChecks:
    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"id": "1"}, "id: expected int, and not str"),
            ({"id": True}, "id: expected int, and not bool"),
            ({"customer": None}, "customer: expected str, and not None"),
            ({"lines": ()}, "lines: expected a list, and not tuple"),
            ({"lines": [Line("a", 1.5)]}, r"lines\[0\]\.price: expected Decimal, and not float"),
            ({"lines": ["a"]}, r"lines\[0\]: expected Line, and not str"),
            ({"paid": 1}, "paid: expected bool, and not int"),
            ({"total": float("nan")}, "total: expected a finite number"),
            ({"total": "1"}, "total: expected float, and not str"),
            ({"uuid": str(ID)}, "uuid: expected UUID, and not str"),
            ({"when": date(2024, 1, 1)}, "when: expected datetime, and not date"),
            ({"day": WHEN}, "day: expected date or None, and not datetime"),
            ({"day": "today"}, "day: expected date or None, and not str"),
            ({"colour": "green"}, "colour: expected one of 'red', 'blue', and not str"),
            ({"state": "lost"}, "state: expected one of 'new', 'old', 3, and not str"),
            ({"state": 3.0}, "state: expected one of"),
            ({"tags": {"a": "b"}}, r"tags\[…\]: expected int, and not str"),
            ({"tags": {1: 1}}, "tags: expected texts as keys, and not int"),
            ({"tags": []}, "tags: expected a dict, and not list"),
            ({"pair": (1,)}, "pair: expected a tuple of 2, and not tuple"),
            ({"pair": ("a", 1)}, r"pair\[0\]: expected int, and not str"),
            ({"many": (1, "2")}, r"many\[1\]: expected int, and not str"),
            ({"either": 1.5}, "either: expected int or str or None, and not float"),
            ({"extra": {}}, r"extra\.weight is missing$"),
            ({"extra": {"weight": 1, "more": 1}}, "extra: expected the fields of Extra, and not a field 'more'"),
            ({"tree": Node([Node([3])])}, r"tree\.children\[0\]\.children\[0\]: expected Node, and not int"),
            ({"same": 1}, "same: expected Line or None, and not int"),
        ],
    )
    def test_the_error_names_the_field(self, changed, message, mercure, updates):
        with pytest.raises(InvalidUpdateError, match=f"^event 'order-paid': {message}"):
            mercure.publish("/orders/1", order(**changed))
        assert updates == []

    def test_the_error_never_quotes_a_value(self, mercure):
        with pytest.raises(InvalidUpdateError) as raised:
            mercure.publish("/orders/1", order(id="a secret", tags={"a secret": "a secret"}))
        assert "secret" not in str(raised.value)

    def test_a_dict_is_checked_by_the_type_that_is_given(self, mercure, updates):
        mercure.publish("/rooms/1", Joined(room="1", user=7), type="joined")
        mercure.publish("/rooms/1", {"name": "a", "price": Decimal(1)})
        for wrong, message in (
            ({"room": "1"}, "user is missing$"),
            ({"room": "1", "user": "7"}, "user: expected int, and not str"),
            ({"room": "1", "user": 7, "age": 7}, "Joined: expected the fields of Joined, and not a field 'age'"),
            ([1], "Joined: expected Joined, and not list"),
        ):
            with pytest.raises(InvalidUpdateError, match=f"^event 'joined': {message}"):
                mercure.publish("/rooms/1", wrong, type="joined")
        assert len(updates) == 2

    @pytest.mark.parametrize("topic", ["/a", ["/a", "/b"]])
    def test_an_event_without_data_is_refused(self, topic, mercure, updates):
        with pytest.raises(InvalidUpdateError, match=r"^event 'joined': expected Joined, and there is no data"):
            mercure.publish(topic, None, type="joined")
        assert updates == []

    def test_a_dict_does_not_stand_for_a_model_of_pydantic(self, mercure, updates):
        """Flask writes it, with dates that are not those of the schema."""
        with pytest.raises(InvalidUpdateError, match="Customer: expected an object of Customer, which pydantic writes"):
            mercure.publish("/customers/1", {"since": WHEN}, type="customer")
        assert updates == []

    def test_classes_of_one_name_are_told_apart(self, mercure, updates):
        other = make_dataclass("Line", [("name", str)])
        other.__module__ = "elsewhere"
        with pytest.raises(InvalidUpdateError, match=rf"expected {__name__}\.Line, and not elsewhere\.Line"):
            mercure.publish("/orders/1", order(lines=[other("a")]))
        with pytest.raises(InvalidUpdateError, match=r"same: expected Line or None, and not elsewhere\.Line"):
            mercure.publish("/orders/1", order(same=other("a")))

    def test_a_dict_may_stand_for_a_dataclass(self, mercure, updates):
        mercure.event("line")(Line)
        mercure.publish("/lines", {"name": "a", "price": Decimal(1)}, type="line")
        with pytest.raises(InvalidUpdateError, match="price: expected Decimal, and not str"):
            mercure.publish("/lines", {"name": "a", "price": "1"}, type="line")

    def test_a_changed_model_of_pydantic_is_checked(self, mercure):
        customer = Customer()
        customer.since = "yesterday"
        with pytest.raises(InvalidUpdateError, match=r"^event 'customer': since: expected datetime, and not str"):
            mercure.publish("/customers/1", customer)

    def test_pydantic_may_keep_the_values_of_enumerations(self, mercure, updates):
        @mercure.event("painted")
        class Painted(BaseModel):
            model_config = ConfigDict(use_enum_values=True)
            colour: Colour

        mercure.publish("/walls/1", Painted(colour=Colour.RED))
        assert updates[0].json() == {"colour": "red"}

    @pytest.mark.parametrize("mode", ["debug", "testing", "neither"])
    def test_only_debug_and_testing_mode_check(self, mode, mercure, app, updates):
        app.testing, app.debug = mode == "testing", mode == "debug"
        wrong = order(id="1")
        if mode == "neither":
            mercure.publish("/orders/1", wrong)
            assert (updates[0].type, updates[0].json()["id"]) == ("order-paid", "1")
        else:
            with pytest.raises(InvalidUpdateError):
                mercure.publish("/orders/1", wrong)

    def test_a_batch_names_the_update(self, mercure, updates):
        with pytest.raises(InvalidUpdateError, match=r"^update 1: event 'order-paid': id: "):
            mercure.publish_many([("/a", order()), ("/a", order(id=None))])
        assert updates == []


class TestRegistration:
    @pytest.mark.parametrize("wrong", [int, dict, "OrderPaid", object()])
    def test_something_else_is_refused(self, wrong, mercure):
        with pytest.raises(TypeError, match=r"event\('x'\): give a dataclass, a TypedDict or a pydantic model"):
            mercure.event("x")(wrong)

    @pytest.mark.parametrize("name", ["", "a\nb", 7])
    def test_a_name_that_is_no_type_is_refused(self, name, mercure):
        with pytest.raises(ValueError, match="type"):
            mercure.event(name)(Line)

    def test_a_type_belongs_to_one_class_and_a_class_to_one_type(self, mercure):
        with pytest.raises(ValueError, match=r"event\('joined'\): .*Joined has this type already"):
            mercure.event("joined")(Line)
        with pytest.raises(ValueError, match=r"event\('again'\): .*Joined has the type 'joined' already"):
            mercure.event("again")(Joined)
        mercure.event("joined")(Joined)

    def test_a_class_that_is_made_again_takes_the_place(self, mercure, updates):
        def make():
            @mercure.event("made")
            @dataclass
            class Made:
                number: int

            return Made

        make()
        mercure.publish("/a", make()(1))
        assert updates[0].type == "made"

    @pytest.mark.parametrize(
        "annotation", [set[int], bytes, complex, dict[int, str], type, "Line | bytes", list[set[int]]]
    )
    def test_a_field_without_a_form_in_json_is_named(self, annotation, mercure):
        made = dataclass(
            types.new_class("Bad", exec_body=lambda names: names.update(__annotations__={"x": annotation}))
        )
        made.__module__ = __name__
        with pytest.raises(TypeError, match=r"Bad\.x: "):
            mercure.event("bad")(made)
        mercure.event("bad")(Line)

    def test_a_model_of_pydantic_that_is_no_object_is_refused(self, mercure):
        class Numbers(RootModel[list[int]]):
            pass

        with pytest.raises(TypeError, match=r"Numbers: .* no object"):
            mercure.event("numbers")(Numbers)

    @pytest.fixture
    def modules(self):
        """Makes modules of their sources."""
        made = []

        def make(name, source):
            module = sys.modules[name] = types.ModuleType(name)
            made.append(name)
            exec("from __future__ import annotations\nfrom dataclasses import dataclass\n" + source, vars(module))
            return module

        yield make
        for name in made:
            del sys.modules[name]

    def test_a_registered_class_hides_none_of_its_name(self, mercure, updates, modules):
        shop = modules("shop_events", "@dataclass\nclass Item:\n    sku: str\n")
        cart = modules(
            "cart_events", "@dataclass\nclass Item:\n    price: float\n@dataclass\nclass Cart:\n    item: Item\n"
        )
        mercure.event("item")(shop.Item)
        mercure.event("cart")(cart.Cart)
        mercure.publish("/carts/1", cart.Cart(cart.Item(1.5)))
        assert updates[0].json() == {"item": {"price": 1.5}}
        with pytest.raises(InvalidUpdateError, match=r"item: expected cart_events\.Item, and not shop_events\.Item"):
            mercure.publish("/carts/1", cart.Cart(shop.Item("a")))

    def test_an_annotation_may_name_a_registered_class_of_another_module(self, mercure, updates, modules):
        shop = modules("shop_events", "@dataclass\nclass Item:\n    sku: str\n")
        cart = modules("cart_events", "@dataclass\nclass Cart:\n    item: Item\n")
        mercure.event("cart")(cart.Cart)
        mercure.event("item")(shop.Item)
        with pytest.raises(InvalidUpdateError, match=r"item\.sku: expected str"):
            mercure.publish("/carts/1", cart.Cart(shop.Item(1)))

    def test_a_class_of_a_function_that_is_named_in_quotes_is_explained(self, mercure):
        @dataclass
        class Inner:
            number: int

        @mercure.event("outer")
        @dataclass
        class Outer:
            inner: "Inner"

        with pytest.raises(TypeError, match=r"names 'Inner', .* inside of a function: move it to the module"):
            mercure.publish("/a", Outer(Inner(1)))

    def test_a_model_with_serializers_is_refused(self, mercure):
        class ByFunction(BaseModel):
            number: int

            @field_serializer("number")
            def as_text(self, value):
                return f"#{value}"

        class ByMark(BaseModel):
            number: Annotated[int, PlainSerializer(str)]

        class AsAWhole(BaseModel):
            number: int

            @model_serializer
            def as_list(self):
                return [self.number]

        class InSeconds(BaseModel):
            model_config = ConfigDict(ser_json_temporal="seconds")
            when: datetime

        class NotWritten(BaseModel):
            number: Annotated[int, PlainSerializer(str)] = Field(exclude=True)

        for model, message in (
            (ByFunction, r"ByFunction\.number: a serializer says"),
            (ByMark, r"ByMark\.number: a serializer says"),
            (AsAWhole, r"AsAWhole: a serializer says"),
            (InSeconds, r"InSeconds: its model_config says"),
        ):
            with pytest.raises(TypeError, match=message):
                mercure.event("x")(model)
        mercure.event("x")(NotWritten)

    def test_a_class_may_be_defined_later(self, mercure, updates):
        module = types.ModuleType("later_events")
        sys.modules["later_events"] = module
        try:
            source = "from dataclasses import dataclass\n@dataclass\nclass First:\n    second: 'Second'\n"
            exec(source, vars(module))
            mercure.event("first")(module.First)
            with pytest.raises(
                TypeError, match="First: an annotation names 'Second', which later_events does not define"
            ):
                mercure.publish("/a", module.First(None))
            exec("@dataclass\nclass Second:\n    number: int\n", vars(module))
            mercure.publish("/a", module.First(module.Second(1)))
            with pytest.raises(InvalidUpdateError, match=r"second\.number: expected int"):
                mercure.publish("/a", module.First(module.Second("1")))
        finally:
            del sys.modules["later_events"]
        assert updates[0].json() == {"second": {"number": 1}}

    def test_pydantic_is_not_imported(self):
        script = (
            "import sys; from dataclasses import dataclass; from flask import Flask; from flask_mercure_sse import *\n"
            "app = Flask('x'); app.testing = True; mercure = MercureSSE(app)\n"
            "@mercure.event('a')\n@dataclass\nclass A:\n    b: int\n"
            "mercure.publish('/a', A(1)); sys.exit('pydantic' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

    def test_a_named_type_is_what_it_stands_for(self, mercure):
        made = make_dataclass("Named", [("x", typing_extensions.TypeAliasType("Name", str))])
        mercure.event("named")(made)
        with pytest.raises(InvalidUpdateError, match="x: expected str"):
            mercure.publish("/a", made(1))


class TestTheCommand:
    @pytest.fixture
    def run(self, app, mercure):
        return lambda *arguments: app.test_cli_runner().invoke(args=["mercure", "types", *arguments])

    def test_it_writes_typescript(self, run, tmp_path):
        printed = run()
        assert printed.exit_code == 0, printed.output
        assert "export interface Extra {\n  note?: string;\n  seen?: boolean;\n  weight: number;\n}\n" in printed.output
        for line in (
            "id: number;",
            "lines: Line[];",
            "key: number;",
            "when: string;",
            "day: string | null;",
            'colour: "red" | "blue";',
            "level: 1;",
            'state: "new" | "old" | 3;',
            "tags: Record<string, number>;",
            "pair: [number, string];",
            "many: number[];",
            "either: number | string | null;",
            "tree: Node | null;",
            "anything: unknown;",
            "items: unknown[];",
            "children: Node[];",
            "label: string;",
            '"order-paid": Order;',
        ):
            assert f"\n  {line}\n" in printed.output, line
        assert "kind" not in printed.output
        assert "secret" not in printed.output
        written = run("--output", str(tmp_path / "events.ts"))
        assert (written.exit_code, written.output) == (0, "")
        assert (tmp_path / "events.ts").read_text(encoding="utf-8") == printed.output

    def test_a_file_that_cannot_be_written_is_an_error_of_one_line(self, run, tmp_path):
        failed = run("--output", str(tmp_path / "missing" / "events.ts"))
        assert failed.exit_code == 1
        assert failed.output.startswith("Error: Could not open file")
        assert failed.output.endswith("No such file or directory\n")
        assert failed.output.count("\n") == 1

    def test_it_writes_json_schema(self, run):
        document = json.loads(run("--format", "json-schema").output)
        assert document["properties"]["order-paid"] == {"$ref": "#/$defs/Order"}
        fields = document["$defs"]["Order"]["properties"]
        assert fields["lines"] == {"type": "array", "items": {"$ref": "#/$defs/Line"}}
        assert fields["uuid"] == {"type": "string", "format": "uuid"}
        assert fields["when"] == {"type": "string"}, "Flask writes no date-time of RFC 3339"
        assert fields["day"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
        assert fields["colour"] == {"enum": ["red", "blue"]}
        assert fields["tags"] == {"type": "object", "additionalProperties": {"type": "integer"}}
        assert fields["pair"] == {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2,
        }
        assert fields["anything"] == {}
        assert document["$defs"]["Extra"]["required"] == ["weight"]
        assert document["$defs"]["Customer"]["properties"]["since"] == {"type": "string", "format": "date-time"}

    def test_two_classes_with_one_name_are_told_apart(self, mercure, run):
        def make(name, kind):
            made = make_dataclass(name, [("x", kind)])
            made.__qualname__ = f"{kind.__name__}.{name}"
            return made

        mercure.event("a")(make("Line", int))
        mercure.event("b")(make("Line", str))
        mercure.event("c")(make("MercureEvents", str))
        printed = run().output
        names = [printed.count(f"export interface {name} ") for name in ("Line", "Line2", "Line3", "MercureEvents")]
        assert names == [1, 1, 1, 1]

    def test_a_generic_model_has_the_types_that_were_given(self, mercure, updates, run):
        Item = TypeVar("Item")

        class Page(BaseModel, Generic[Item]):
            items: list[Item]

        mercure.event("numbers")(Page[int])
        mercure.event("lines")(Page[Line])
        mercure.publish("/a", Page[int](items=[1]))
        assert (updates[0].type, updates[0].json()) == ("numbers", {"items": [1]})
        printed = run().output
        assert "export interface Page_int {\n  items: number[];\n}\n" in printed
        assert "export interface Page_Line {\n  items: Line[];\n}\n" in printed

    @pytest.mark.parametrize("name", ["string", "number", "interface", "any"])
    def test_a_class_may_have_a_name_that_typescript_keeps_for_itself(self, name, mercure, run):
        mercure.event("odd")(make_dataclass(name, [("x", int)]))
        assert f"export interface {name}2 {{" in run().output

    def test_without_events_it_says_what_to_do(self):
        app = Flask("none")
        MercureSSE(app)
        ran = app.test_cli_runner().invoke(args=["mercure", "types"])
        assert ran.exit_code == 1
        assert "register their classes with @mercure.event" in ran.output

    @pytest.fixture
    def node(self):
        try:
            with client_package.held() as node:
                yield node
        except npm.Missing as missing:
            pytest.skip(str(missing))

    @pytest.fixture
    def complaints(self, node, tmp_path):
        """What the compiler says of a program that uses the client: nothing, if it takes it."""
        built = client_package.run(node, "build.mjs", "--dist")
        assert built.returncode == 0, built.stdout
        (tmp_path / "node_modules").mkdir()
        (tmp_path / "node_modules" / "petasos-client").symlink_to(client_package.FOLDER)
        compiler = str(client_package.FOLDER / "node_modules" / ".bin" / "tsc")
        options = ["--ignoreConfig", "--strict", "--noEmit", "--allowImportingTsExtensions", "--target", "es2022"]
        options += ["--module", "nodenext", "--lib", "es2022,dom,dom.iterable", "--types", ""]

        def complaints(program):
            (tmp_path / "program.mts").write_text(program, encoding="utf-8")
            compiled = client_package.run(compiler, *options, str(tmp_path / "program.mts"))
            assert (compiled.returncode == 0) is not bool(compiled.stdout)
            return compiled.stdout

        return complaints

    def test_the_program_of_the_guide_is_compiled(self, complaints, tmp_path, monkeypatch):
        monkeypatch.setenv("FLASK_DEBUG", "1")
        page, names = Document("how-to/typed-events"), {"__name__": "guide"}
        exec(page.blocks("python")[0], names)
        types = str(tmp_path / "events.mts")
        names["app"].test_cli_runner().invoke(args=["mercure", "types", "--output", types])
        (program,) = page.blocks("ts")
        program = program.replace('"./events"', '"./events.mts"')
        assert complaints(program) == ""
        assert "toUpperCase" in complaints(program.replace("total.toFixed", "total.toUpperCase"))

    def test_the_compiler_takes_what_it_writes(self, run, mercure, updates, tmp_path, complaints):
        """With the client, and with the documents that are really published."""
        Odd = TypedDict("Odd", {"a-b": int, 'quote"': str, "ünïcode": bool})
        mercure.event('o"dd')(Odd)
        run("--output", str(tmp_path / "events.mts"))
        full = order(
            tree=Node([]), extra={"weight": 1, "note": "a"}, many=(1, 2), either="a", same=Line("b", Decimal(1))
        )
        for topic, data in (("/a", order()), ("/b", full), ("/c", Customer())):
            mercure.publish(topic, data)
        typed = "".join(
            f'const data{number}: MercureEvents["{update.type}"] = {update.data};\n'
            for number, update in enumerate(updates)
        )
        right = (
            'import { subscribe } from "petasos-client";\nimport type { MercureEvents } from "./events.mts";\n'
            + typed
            + 'const news = subscribe<MercureEvents>("https://hub.example/", "/orders");\n'
            'news.on("order-paid", (event) => event.json().lines.map((line) => line.price.toUpperCase()));\n'
            'news.on("o\\"dd", (event) => event.json()["a-b"].toFixed());\n'
        )
        wrong = right + 'news.on("order-paid", (event) => event.json().lines.toFixed());\n'
        assert complaints(right) == ""
        assert "toFixed" in complaints(wrong)
