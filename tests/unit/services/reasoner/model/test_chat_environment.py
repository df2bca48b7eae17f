"""A template that loops, calls itself or doubles a text is stopped, and an ordinary one renders as Jinja renders it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from checkpoints.tokenizer_files import CHAT_TEMPLATE
from services.reasoner.model import chat_environment
from services.reasoner.model.chat_environment import ChatEnvironment

MESSAGES = [
    {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "audio", "audio": ""}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Ho"}]},
] * 3

HOSTILE = {
    "two loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "two loops with output": "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "loops with a filter": (
        "{% for a in range(99999) if a %}{% for b in range(99999) if b < 0 %}{% endfor %}{% endfor %}"
    ),
    "loop with a length": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ loop.length }}{% endfor %}{% endfor %}"
    ),
    "recursive loop": "{% for a in range(99) recursive %}{{ loop(range(99)) }}{% endfor %}",
    "recursive loop with text": "{% for a in [[1] * 9999] recursive %}" + "x" * 99999 + "{{ loop(a) }}{% endfor %}",
    "macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "doubling": "{% set n = namespace(x='xxxxxxxx') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "adding": "{% set n = namespace(x='xxxxxxxx') %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "block": (
        "{% set n = namespace(x='x') %}{% for a in range(60) %}{% set y %}{{ n.x }}{{ n.x }}"
        "{% endset %}{% set n.x = y %}{% endfor %}"
    ),
    "lists": "{% set n = namespace(x=[1]) %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "times": "{{ 'x' * 10000000000 }}",
    "times of lists": "{{ ([1] * 99999) * 99999 }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "percent": "{{ '%10000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (10000000000, 1) }}",
    "format": "{{ '{:>10000000000}'.format(1) }}",
    "format nested": "{{ '{:>{}}'.format(1, 10000000000) }}",
    "ljust": "{{ 'x'.ljust(10000000000) }}",
    "center": "{{ 'x'|center(10000000000) }}",
    "indent": "{{ ('x\n' * 99999)|indent(99999) }}",
    "tojson": "{{ (range(99999)|list)|tojson(indent=99999) }}",
    "replace": "{{ ('x' * 99999)|replace('x', 'y' * 99999) }}",
    "replace method": "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
    "join": "{{ (['x' * 99999] * 99999)|join }}",
    "join method": "{{ ('y' * 99999).join(['x'] * 99999) }}",
    "join of a map": "{{ (['x' * 99999] * 99999)|map('string')|join('') }}",
    "translate": "{{ 'x'.translate({120: 'y'}) }}",
    "expandtabs": "{{ '\t'.expandtabs(99999) }}",
    "lipsum": "{{ lipsum(99999) }}",
    "wordwrap": "{{ 'x y'|wordwrap(1, wrapstring='z' * 99999) }}",
    "deep": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "long": "x" * 2_000_000,
    "slices": (
        "{% set s = 'x' * 9999999 %}{% for a in range(99999) %}{% for b in range(30) %}"
        "{% if 'y' in s %}{% endif %}{% endfor %}{% endfor %}"
    ),
}


def render(source: str, **values: Any) -> str:
    environment = ChatEnvironment(lambda message: None)
    return environment.rendered(environment.compiled(source), **values)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_environment, "MAX_RENDER_S", 0.5)
    began_s = time.monotonic()
    with pytest.raises(Exception, match=r"."):
        render(HOSTILE[name])
    assert time.monotonic() - began_s < 30


ORDINARY = [
    CHAT_TEMPLATE,
    (
        "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ ', ' if not loop.last }}"
        "{{ loop.previtem }}{% endfor %}"
    ),
    "{% for m in messages if m.role == 'user' %}{{ m.role ~ ':' ~ loop.index0 }}{% else %}none{% endfor %}",
    (
        "{% for m in [] %}x{% else %}none"
        "{% endfor %}{{ messages[0]['role'] + '!' }}{{ 2 + 3 }}{{ 7 % 4 }}{{ 2 ** 5 }}{{ 'a' * 3 }}"
    ),
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role|upper|trim }}{% break %}{% endfor %}",
    "{{ messages|map(attribute='role')|join(', ') }}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}",
    (
        "{{ messages[0]|tojson }}{{ messages[0]|tojson(indent=2) }}{{ 'a b'.split(' ') }}"
        "{{ 'x{}'.format(3) }}{{ '%s-%d' % ('a', 2) }}"
    ),
    (
        "{% set ns = namespace(i=0) %}{% for m in messages %}{% set ns.i = ns.i + 1 %}"
        "{% endfor %}{{ ns.i }}{{ ns.missing }}"
    ),
    "{% macro f(x, y=1) %}[{{ x }}{{ y }}]{% endmacro %}{{ f('a') }}{{ f('b', y=2) }}",
    "{% set y %}{{ messages[0].role }}-{% endset %}{{ y }}{{ y|replace('-', '+') }}{{ none }}{{ true }}{{ 1.5 }}",
    "{%- for a in [[1, [2]], [3]] recursive %}{{ a if a is number else loop(a) }}{% endfor -%}",
    (
        "{{ messages|last }}{{ messages|first }}{{ {'b': 1, 'a': 2}|dictsort }}"
        "{{ {'a': 1}.items()|list }}{{ ('a\nb')|indent(2) }}"
    ),
]


@pytest.mark.parametrize("source", ORDINARY)
def test_an_ordinary_template_renders_as_jinja_renders_it(source: str) -> None:
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    plain.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    expected = plain.from_string(source).render(messages=MESSAGES, add_generation_prompt=True)
    assert render(source, messages=MESSAGES, add_generation_prompt=True) == expected


def test_the_longest_conversation_is_rendered() -> None:
    many = MESSAGES[1:3] * 4000
    assert len(render(CHAT_TEMPLATE, messages=many, add_generation_prompt=True)) > 8000


def test_a_render_has_the_whole_budget_whatever_came_before() -> None:
    environment = ChatEnvironment(lambda message: None)
    template = environment.compiled("{% for a in range(count) %}{{ 'x' * 1000 }}{% endfor %}")
    for _ in range(5):
        assert len(environment.rendered(template, count=9000)) == 9_000_000
