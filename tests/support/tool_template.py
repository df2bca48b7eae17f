"""A chat template that renders tools in the manner of Qwen2.5, and a small tokenizer with the token of its calls."""

from __future__ import annotations

import json
from pathlib import Path

from checkpoints.tokenizer_files import vocabulary_for, write_tokenizer_files
from services.reasoner.model.prompt import ChatTemplate
from services.reasoner.model.tools import Tool
from services.runtime.checkpoint.tokenizer import Tokenizer
from tests.support.golden_cases import SPECIAL_IDS

TOOL_CALL, TOOL_CALL_END = 613, 614
TOOL_IDS = {**SPECIAL_IDS, "<tool_call>": TOOL_CALL, "</tool_call>": TOOL_CALL_END}

TOOL_TEMPLATE = """\
{%- macro words(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- else -%}
        {%- for part in content -%}
            {{- '<|audio_bos|><|AUDIO|><|audio_eos|>' if part.type == 'audio' else part.text -}}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{{- '<|im_start|>system\\n' -}}
{%- if messages and messages[0].role == 'system' -%}
    {{- words(messages[0].content) -}}
{%- else -%}
    {{- 'You are a helpful assistant.' -}}
{%- endif -%}
{%- if tools -%}
    {{- '\\n\\n# Tools\\n<tools>' -}}
    {%- for tool in tools -%}
        {{- '\\n' -}}
        {{- tool | tojson -}}
    {%- endfor -%}
    {{- '\\n</tools>\\nTo call one, write <tool_call>\\n{"name": NAME, "arguments": OBJECT}\\n</tool_call>.' -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- for message in messages -%}
    {%- if message.role == 'tool' -%}
        {%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}
            {{- '<|im_start|>user' -}}
        {%- endif -%}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' -}}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}
            {{- '<|im_end|>\\n' -}}
        {%- endif -%}
    {%- elif message.role == 'assistant' and message.tool_calls -%}
        {{- '<|im_start|>assistant' -}}
        {%- if message.content -%}
            {{- '\\n' -}}{{- words(message.content) -}}
        {%- endif -%}
        {%- for call in message.tool_calls -%}
            {{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' -}}
            {{- call.function.arguments | tojson -}}
            {{- '}\\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\\n' -}}
    {%- elif message.role != 'system' -%}
        {{- '<|im_start|>' + message.role + '\\n' -}}{{- words(message.content) -}}{{- '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

WEATHER = Tool(
    "get_weather",
    "The weather <now> of a city & its 'area'",
    {"type": "object", "properties": {"city": {"type": "string"}, "at": {"type": "number"}}, "required": ["city"]},
)


def write_tool_files(folder: Path, template: str = TOOL_TEMPLATE) -> None:
    """Write the tokenizer's files and the template beside a golden or tiny checkpoint."""
    write_tokenizer_files(folder, vocabulary_for(TOOL_IDS, None), TOOL_IDS, 128)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def tool_template(folder: Path, template: str = TOOL_TEMPLATE) -> ChatTemplate:
    """The template, read with its tokenizer."""
    write_tool_files(folder, template)
    tokenizer = Tokenizer((folder / "tokenizer.json").read_text(), chat_template=template)
    return ChatTemplate(tokenizer, audio_id=TOOL_IDS["<|AUDIO|>"], im_end_id=TOOL_IDS["<|im_end|>"])


def call_ids(tokenizer: Tokenizer, name: str, arguments: object) -> list[int]:
    """The tokens of one call as the model writes it."""
    body = "\n" + json.dumps({"name": name, "arguments": arguments}) + "\n"
    return [TOOL_CALL, *tokenizer.encode(body), TOOL_CALL_END]
