"""Malformed configurations, overrides and command lines, for fuzz.py and tests/config/test_malformed.py.

`fixed_cases` is a list of known poison: YAML bombs, anchors that contain themselves, deep nesting, NUL bytes, surrogates, numbers of
5,000 digits, circles of extends and of references, 10 MB files. `RandomCases` changes shipped configurations and overrides.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from processes import FIELD

from dfw.config.load import shipped_directory

Case = tuple[str, list[str]]
"""Name, and the arguments of `dfw config validate` or `dfw config show`."""

SECRET = "s3cr3t-7f1c"
"""Value of DFW_FUZZ_SECRET in the environment: no message may hold it."""

ATOMS = [
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    -0.0,
    1e308,
    1e-320,
    float("inf"),
    float("-inf"),
    float("nan"),
    2**31,
    2**63,
    2**64,
    10**30,
    -(10**30),
    "",
    " ",
    "a",
    "None",
    "nan",
    "1e3",
    "on",
    "~",
    "\n",
    "\t",
    "é",
    "日本語",
    "\u202e",
    "\u0000",
    "\ud800",
    "\x1b[31m",
    "{prompt}",
    "{0}",
    "{x.y}",
    "%s%n",
    "${prompt}",
    "${seed}",
    "${nope}",
    "${",
    "${}",
    "${a.b.c}",
    "${oc.env:HOME}",
    "${oc.env:NOPE}",
    "${oc.env:DFW_FUZZ_SECRET}",
    "$DFW_FUZZ_SECRET",
    "${oc.decode:'['}",
    "${oc.select:prompt}",
    "${.}",
    "${..}",
    "${oc.create:{a: 1}}",
    "???",
    "../../etc/passwd",
    "/etc/passwd",
    "dreamfw/nerf",
    "dreamfw/",
    "/nerf",
    "a/b/c",
    "nerf\n",
    "local/x",
    "x" * 5000,
    [],
    [[]],
    [1, [2, [3]]],
    {},
    {"a": {}},
    {"type": "nerf"},
    {"type": None},
    {"type": ["nerf"]},
    {"type": 3},
    {"from": 1, "to": 2},
    {"from": 1},
    {"from": "a", "to": []},
    {"from": 1, "to": 2, "start": 5, "end": 1},
    {"from": 1, "to": 2, "unit": "step", "end": 10**9},
    {"from": float("nan"), "to": float("nan"), "ease": "log"},
    [1, 2],
    [2, 1],
    ["a", "b"],
    [float("nan"), 1],
    {"": 1},
    {1: 2},
    {"a.b": 1},
    {"__class__": 1},
]
TEXTS = [  # values as YAML or override text
    "9" * 5000,
    "-" + "9" * 5000,
    "0x",
    "0x_",
    "0b",
    "0b_",
    "1_",
    "_1",
    "1__0",
    "0o8",
    "1:60:60",
    "190:20:30.15",
    "2001-99-99",
    "2001-12-14t21:59:43.10-05:00",
    "2024-02-30 25:00:00",
    "!!python/object/apply:os.system [id]",
    "!!binary Zm9v",
    "!!binary ä",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!pairs [a: 1]",
    "!!float x",
    "!!int x",
    "!!int ''",
    "!!bool x",
    "!!timestamp x",
    "!!null x",
    "!!map x",
    "!!seq x",
    "!!str [a]",
    "!x y",
    "!<tag:yaml.org,2002:float> [1]",
    "&a [*a]",
    "&a {b: *a}",
    "*a",
    "&a",
    "<<",
    "{<<: 1}",
    "{<<: [1]}",
    "{<<: *x}",
    "? a",
    "? [a]\n: b",
    "{[a]: b}",
    "{{a}}: b",
    "{a: b",
    "[a, b",
    "'",
    '"',
    '"\\x"',
    '"\\ud800"',
    '"\\0"',
    '"\\U00110000"',
    "|",
    ">",
    "@",
    "`",
    "%",
    "%YAML 9.9",
    "--- a\n--- b",
    "...",
    "#",
    ": :",
    "a: b: c",
    "-",
    "- -",
    "?",
    "\t",
    "[" * 200,
    "[" * 900 + "]" * 900,
    "{a: " * 300 + "}" * 300,
    "${",
    "${}",
    "${{}}",
    "${a",
    "${a:",
    "${a:}",
    "${oc.env}",
    "${oc.env:}",
    "${oc.env:A,B,C}",
    "${oc.decode:x}",
    "${oc.decode:${oc.decode:1}}",
    "${oc.deprecated:x}",
    "${oc.dict.keys:losses}",
    "${oc.dict.values:losses}",
    "${oc.create:[]}",
    "${losses}",
    "${geometry}",
    "\\${a}",
    "\\\\${a}",
    "${'a'}",
    "${a[0]}",
    "${a[b]}",
    "${[}",
    "${prompt}${prompt}",
    "$",
    "$$",
    "${-1}",
    "${1}",
    "${a b}",
    "${ a }",
    "${:}",
    "${..prompt}",
    "${...prompt}",
    "${....................prompt}",
    "${fuzz:1}",
    ".nan",
    ".inf",
    "-.inf",
    "1e400",
    "1e-400",
    "NaN",
    "inf",
    "1" * 400 + ".5",
    "0.1.2",
    "+",
    "+1",
    "1e",
    "e1",
    "١",
    "½",
    "²",
    "on",
    "null",
    "Null",
    "~",
    "=",
    "==",
]
FORMULAS = [
    "9**9**9**9",
    "(" * 90 + "1" + ")" * 90,
    "(" * 99 + "sigma" + ")" * 99,
    "-" * 199 + "1",
    "__import__('os').system('id')",
    "sigma.__class__",
    "sigma[0]",
    "lambda: 1",
    "[x for x in ()]",
    "exec('1')",
    "sqrt",
    "sqrt()",
    "sqrt(sigma, sigma)",
    "min(sigma)",
    "1/0",
    "0/0",
    "log(0)",
    "log(-1)",
    "sqrt(-1)",
    "1e400",
    "1e29**1e29",
    "True",
    "None",
    "...",
    "'a'",
    "b'a'",
    "1j",
    "0x10",
    "0b1",
    "1_000",
    "sigma if sigma else 1",
    "sigma := 1",
    "sigma @ sigma",
    "sigma // 1",
    "sigma % 1",
    "~sigma",
    "not sigma",
    "+sigma",
    "sigma < 1",
    "sigma and 1",
    "f'{sigma}'",
    "f'{__import__(\"os\")}'",
    "*sigma",
    "sqrt(*sigma)",
    "sqrt(x=sigma)",
    "sqrt(sqrt(sqrt(sqrt(sigma))))",
    "\x00",
    "sigma\x00",
    "\ud800",
    "sigma #",
    "sigma\n+1",
    "sigma;1",
    "",
    " ",
    "ｓigma",
    "sıgma",
    "alpha" * 30,
    "1" * 199,
    "max(" * 40 + "1",
    "1if 1else 2",
    "sigma" + "**2" * 60,
    "sigma" + "+sigma" * 32,
    "await sigma",
    "yield",
    "abs(abs)",
    "exp(exp(exp(exp(exp(1)))))",
    "sigma**-9999",
    "-sigma",
    "sigma-1",
]


def fixed_cases(folder: Path) -> list[Case]:
    """Writes the files of the fixed cases into `folder`; returns the cases."""
    cases: list[Case] = []

    def add(name: str, content: str | bytes, *more: str) -> None:
        path = folder / f"{name}.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        cases.append((f"poison:{name}", [str(path), *more]))

    good = FIELD
    laughs = "a0: &a0 [lol, lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    add("billion-laughs", good + laughs)
    add(
        "billion-laughs-mappings",
        good
        + "b0: &b0 {k: v}\n"
        + "".join(f"b{i}: &b{i} {{{', '.join(f'k{j}: *b{i - 1}' for j in range(9))}}}\n" for i in range(1, 9)),
    )
    add(
        "laughs-small",
        good + "a0: &a0 [lol, lol]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 5)),
    )
    add("anchor-in-itself-list", good + "x: &x [*x]\n")
    add("anchor-in-itself-mapping", good + "x: &x {y: *x}\n")
    add("anchor-in-itself-losses", good.replace("losses:", "losses: &l\n  again: *l"))
    add("merge-key", good + "x: &x {a: 1}\ny: {<<: *x}\n")
    add("merge-key-itself", good + "x: &x {<<: *x}\n")
    for depth in (100, 400, 1000, 5000, 100000):
        add(f"nested-lists-{depth}", good + "x: " + "[" * depth + "]" * depth + "\n")
        add(f"nested-open-{depth}", good + "x: " + "[" * depth)
        add(f"nested-mappings-{depth}", good + "x: " + "{a: " * depth + "1" + "}" * depth + "\n")
    add("nested-blocks-900", good + "x:\n" + "".join(" " * (i + 1) + "a:\n" for i in range(900)))
    add("duplicate-keys", good + "seed: 1\nseed: 2\n")
    add("duplicate-losses", good.replace("  opacity:", "  sds: {}\n  opacity:"))
    add("latin-1", good.replace("a coin", "ein hübscher Ball").encode("latin-1"))
    add("utf-16", good.encode("utf-16"))
    add("bom", "\ufeff" + good)
    add("nul", good.replace("a coin", "a\0coin"))
    add("nul-escaped-prompt", good.replace("prompt: a coin", 'prompt: "a\\0coin"'))
    add("surrogate-prompt", good.replace("prompt: a coin", 'prompt: "a\\ud800coin"'))
    add("surrogate-raw", good.replace("a coin", "a\ud800coin"))
    add("escape-prompt", good.replace("prompt: a coin", 'prompt: "a\\e[2J\\a coin"'))
    add("nul-output", good + 'output: "a\\0b"\n')
    add("binary", bytes(range(256)) * 50)
    add("empty", "")
    add("only-comment", "# nothing\n")
    add("scalar", "a red mushroom\n")
    add("list", "- a\n- b\n")
    add("two-documents", good + "---\nseed: 3\n")
    add("tabs", good.replace("  resolution", "\tresolution"))
    add("crlf", good.replace("\n", "\r\n"))
    add("yaml-python-tag", good + "x: !!python/object/apply:os.system [id]\n")
    add("10mb-comment", good + "# " + "x" * 10_000_000 + "\n")
    add("10mb-prompt", good.replace("prompt: a coin", "prompt: " + "a coin " * 1_400_000))
    add("1mb-keys", good + "".join(f"k{i}: {i}\n" for i in range(40_000)))
    losses = "".join(f"  l{i}: {{type: dreamfw/opacity}}\n" for i in range(300))
    add("300-losses", good.replace("losses:\n", "losses:\n" + losses))
    add("digits-5000", good.replace("seed: 0", "seed: " + "9" * 5000))
    add("date-99", good.replace("seed: 0", "seed: 2001-99-99"))
    add("hex-empty", good.replace("seed: 0", "seed: 0x_"))
    add("float-us", good.replace("seed: 0", "seed: ._"))
    add("sexagesimal", good.replace("seed: 0", "seed: 1:60:60"))
    add("key-null", good + "? \n: 1\n")
    add("key-list", good + "? [a, b]\n: 1\n")
    add("key-mapping", good + "? {a: b}\n: 1\n")
    add("key-date", good + "2001-12-14: 1\n")
    add("key-bytes", good + "!!binary Zm9v: 1\n")
    add("key-float", good + "1.5: 1\n.nan: 2\n")
    add("extends-self", good + "extends: extends-self.yaml\n")
    add("extends-a", "extends: extends-b.yaml\n")
    add("extends-b", "extends: extends-a.yaml\n")
    add("extends-passwd", "extends: ../../../../../../../etc/passwd\n")
    add("extends-shadow", "extends: /etc/shadow\n")
    add("extends-dir", "extends: .\n")
    add("extends-null-byte", 'extends: "a\\0b"\n')
    add("extends-dev-null", "extends: /dev/null\n")
    add("extends-proc-mem", "extends: /proc/self/mem\n")
    add("extends-long", f"extends: {'a' * 5000}\n")
    add("extends-long-yaml", f"extends: {'a' * 5000}.yaml\n")
    add("extends-list", "extends: [a, b]\n")
    add("extends-interpolated", "extends: ${oc.env:HOME}\n")
    add("extends-home", "extends: ~nobodyhere/x.yaml\n")
    add("extends-surrogate", 'extends: "\\ud800.yaml"\n')
    for i in range(1200):
        (folder / f"chain{i}.yaml").write_text(f"extends: chain{i + 1}.yaml\n")
    (folder / "chain1200.yaml").write_text(good)
    cases.append(("poison:extends-chain-1200", [str(folder / "chain0.yaml")]))
    add("interpolation-circle-2", good.replace("prompt: a coin", "prompt: ${name2}\nname2: ${prompt}"))
    add("interpolation-circle-self", good.replace("prompt: a coin", "prompt: ${prompt}"))
    add(
        "interpolation-circle-names",
        good.replace("prompt: a coin\n", "prompt: ${negative_prompt}\nnegative_prompt: ${output}\noutput: ${prompt}\n"),
    )
    add(
        "interpolation-bomb",
        good.replace("prompt: a coin", "prompt: ${views.template}${views.template}").replace(
            "views: {mode: none}",
            "views: {mode: none, template: '"
            + "${negative_prompt}" * 20
            + "'}\nnegative_prompt: '"
            + "${output}" * 40
            + "'\noutput: '"
            + "x" * 20000
            + "'",
        ),
    )
    add("interpolation-node", good.replace("prompt: a coin", "prompt: ${losses}"))
    add("interpolation-env", good.replace("prompt: a coin", "prompt: ${oc.env:DFW_FUZZ_SECRET}"))
    add("interpolation-in-key", good + "${prompt}: 1\n")
    add("interpolation-malformed", good.replace("prompt: a coin", "prompt: '${'"))
    add("interpolation-resolver", good.replace("prompt: a coin", "prompt: ${nosuch:1}"))
    add("interpolation-decode", good.replace("prompt: a coin", "prompt: ${oc.decode:'[' }"))
    add("interpolation-deep", good.replace("prompt: a coin", "prompt: " + "${oc.decode:" * 300 + "1" + "}" * 300))
    add("missing-mark", good.replace("prompt: a coin", "prompt: ???"))
    add("plugins-bad", good + "plugins: ['@@@', '', 'a b c', 'dreamfw>=99', \"x; python_version<'2'\"]\n")
    add("plugins-url", good + "plugins: ['x @ file:///etc/passwd']\n")
    add("device-newline", good.replace("device: cpu", 'device: "cpu\\n"'))
    add("device-huge", good.replace("device: cpu", "device: cuda:99999999999999999999"))
    add("device-arabic", good.replace("device: cpu", "device: cuda:١"))
    for name, text in (("dots", ".."), ("slash", "a/b"), ("newline", '"a\\n"'), ("long", "a" * 5000), ("number", "1e-3")):
        add(f"name-{name}", good.replace("name: crash", f"name: {text}"))
    for name, text in (("huge", 10**40), ("float", "1e400"), ("octal", "0123"), ("true", "true"), ("on", "on"), ("nan", ".nan")):
        add(f"steps-{name}", good.replace("steps: 12", f"steps: {text}"))
    add("width-huge", good.replace("width: 16,", f"width: {10**18},"))
    add("levels-huge", good.replace("levels: 2", f"levels: {10**12}"))
    add("log2-huge", good.replace("log2_size: 8", f"log2_size: {10**6}"))
    add("betas-nan", good + "optimizer: {betas: [.nan, .nan], eps: .nan, lr: .nan}\n")
    add("weight-nan", good.replace("weight: 0.3}}", "weight: .nan}}").replace("opacity, weight: 0.3", "opacity, weight: .nan"))
    add("groups-dots", good + "optimizer: {groups: {'': {lr: 1}, '.': {lr: 1}, '..': {lr: 1}}}\n")
    for number, formula in enumerate(FORMULAS):
        add(f"formula-{number}", good.replace("guidance_scale: 1}", "guidance_scale: 1, weighting: " + json.dumps(formula) + "}"))
    for field in ("start.mesh", "start.run", "output", "guidance.model", "name"):
        cases.append((f"line:long {field}", ["dreamfusion", f"{field}={'a' * 5000}"]))
    missing = str(folder / "nope.yaml")
    for arguments in (
        [missing], [""], [" "], ["."], ["/"], ["/dev/null"], ["a" * 5000], ["a" * 5000 + ".yaml"], ["\udcff"], ["\udcff.yaml"], ["~"], ["~nobodyhere/x"], ["-"], ["--"], ["=", "="], ["dreamfusion="],
        ["dreamfusion", "prompt=\udcff"], ["dreamfusion", "=x"], ["dreamfusion", "."], ["dreamfusion", ".=1"], ["dreamfusion", "a..b=1"], ["dreamfusion", "extends=x"], ["dreamfusion", "extends.a=x"], ["dreamfusion", "losses=1"],
        ["dreamfusion", "losses={}"], ["dreamfusion", "losses.sds={}"], ["dreamfusion", "losses.sds=[]"], ["dreamfusion", "geometry=null"], ["dreamfusion", "prompt.x=1"], ["dreamfusion", "prompt=x", "prompt.y=1", "prompt=z"], ["dreamfusion", "a" * 3000 + "=1"],
        ["dreamfusion", ".".join("a" * 1) + ".a" * 2000 + "=1"], ["dreamfusion", "geometry" + ".a" * 900 + "=1"], ["dreamfusion", "--plugin", "/etc/passwd"], ["dreamfusion", "--plugin", "\udcff.py"], ["dreamfusion", "--plugin", "a" * 5000 + ".py"], ["dreamfusion", "--block", "dreamfw"], ["dreamfusion", "--block", ""], ["dreamfusion", "--block", "\udcff"], ["dreamfusion", "--nope"], ["dreamfusion", "--plugin"],
    ):  # fmt: skip
        cases.append((f"line:{' '.join(arguments)[:60]!r}", arguments))
    return cases


CONFIGS = ("dreamfusion", "playground-2d", "gaussian-2d", "vsd", "hifa", "dreamfusion-sd")
KEYS = (
    "prompt negative_prompt seed name output device precision plugins geometry geometry.type geometry.encoding.levels geometry.radius "
    "renderer.samples renderer.background guidance guidance.type guidance.model guidance.revision losses losses.sds losses.sds.weight "
    "losses.sds.timesteps losses.sds.weighting losses.new.type losses.new prompter.sectors cameras.width cameras.elevation "
    "optimizer.lr optimizer.betas optimizer.groups.a.b.lr optimizer.groups.geometry.lr trainer.steps export.formats export.level "
    "start.run start.mesh stages.a.seed extends nope nope.nope"
).split()
MARKS = b"{}[]:,&*#?|-<>=!%@`\"'\\\n\t $"


class RandomCases:
    """Random cases; equal seeds give equal ones. Files are written into `folder`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self._file = folder / "fuzzed.yaml"
        self._texts = [path.read_text() for path in sorted(shipped_directory().glob("*.yaml"))] + [FIELD] * 6
        self._trees = [yaml.safe_load(text) for text in self._texts]

    def next(self) -> Case:
        """Makes the next case."""
        kind = self.random.choice(("tree", "tree", "bytes", "text", "override", "override", "override", "override"))
        if kind == "override":
            return kind, [self.random.choice(CONFIGS), *(self._override() for _ in range(self.random.choice((1, 1, 2, 4))))]
        make: dict[str, Callable[[], bytes]] = {
            "tree": self._changed_tree,
            "text": self._changed_lines,
            "bytes": self._changed_bytes,
        }
        self._file.write_bytes(make[kind]())
        return kind, [str(self._file)]

    def _override(self) -> str:
        key = self.random.choice([*KEYS, ""])
        if self.random.random() < 0.1:
            key = key.replace(".", self.random.choice(("..", "/", "[0].", "\n", "")))
        value = self.random.choice(TEXTS) if self.random.random() < 0.6 else str(self.random.choice(ATOMS))
        if self.random.random() < 0.15:
            value = self.random.choice(FORMULAS)
        return key + self.random.choice(("=", "=", "=", "", "==", ": ")) + value

    def _changed_tree(self) -> bytes:
        tree = json.loads(json.dumps(self.random.choice(self._trees)))
        for _ in range(self.random.choice((1, 1, 2, 5))):
            self._change(tree)
        try:
            return yaml.dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass")
        except (yaml.YAMLError, RecursionError, TypeError):  # values that YAML's own writer refuses
            return json.dumps(tree).encode()

    def _change(self, tree: Any) -> None:
        places = list(_places(tree))
        if not places:
            return
        node, key = self.random.choice(places)
        way = self.random.randrange(6)
        if way <= 2:
            node[key] = copy.deepcopy(self.random.choice(ATOMS))  # it may be changed further
        elif way == 3 and isinstance(node, dict):
            value = node.pop(key)
            names = ("", str(key)[:-1], str(key) + "s", str(key).upper(), "type", "weight", "__init__", "model_config")
            node[self.random.choice(names)] = value
        elif way == 4:
            other, at = self.random.choice(places)
            node[key] = json.loads(json.dumps(other[at], default=str))
        else:
            node[key] = {"type": node[key]} if self.random.random() < 0.5 else [node[key]]

    def _changed_lines(self) -> bytes:
        lines = self.random.choice(self._texts).splitlines()
        for _ in range(self.random.choice((1, 2, 3))):
            at = self.random.randrange(len(lines))
            match self.random.randrange(5):
                case 0:
                    lines[at] = lines[at].split(":")[0] + ": " + self.random.choice(TEXTS)
                case 1:
                    lines.insert(at, self.random.choice(lines))
                case 2:
                    lines[at] = " " * self.random.randrange(6) + lines[at]
                case 3 if len(lines) > 1:
                    del lines[at]
                case _:
                    lines[at] += self.random.choice(TEXTS)
        return "\n".join(lines).encode("utf-8", "surrogatepass")

    def _changed_bytes(self) -> bytes:
        data = bytearray(self.random.choice(self._texts).encode())
        for _ in range(self.random.choice((1, 2, 8, 40))):
            at = self.random.randrange(len(data))
            match self.random.randrange(4):
                case 0:
                    data[at] = self.random.randrange(256)
                case 1:
                    del data[at : at + self.random.randrange(1, 9)]
                    data = data or bytearray(b" ")
                case 2:
                    data[at:at] = bytes(self.random.choice(MARKS) for _ in range(self.random.randrange(1, 5)))
                case _:
                    data[at:at] = data[at : at + self.random.randrange(1, 30)]
        return bytes(data)


def _places(node: Any) -> Any:
    """Gives (container, key) of everything below a node."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        yield node, key
        yield from _places(value)
