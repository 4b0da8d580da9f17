"""Writes reference.json, what transformers renders for the templates beside this file, and features.json, what it renders
for the short ones of features.py.

The templates have the constructs of the families they are named after.

    pip install transformers==5.23.0 jinja2==3.1.6
    python tests/chat_reference/generate.py
"""

import datetime
import json
import pathlib

from features import FEATURES, SAMPLE
from transformers.utils import chat_template_utils

HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
NOW = 1_753_531_200  # 26 July 2025, 12:00 UTC


class Now(datetime.datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.UTC).replace(tzinfo=None)


chat_template_utils.datetime = Now

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city — \"now\" & <here>",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1.5}},
            "required": ["city"],
        },
    },
}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich"}}}
SHORT = [{"role": "user", "content": "  27+48? "}]
LONG = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi\nthere"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello.", "tool_calls": None},
    {"role": "user", "content": "日本語 🎉 <b>&</b>"},
]
REASONED = SHORT + [{"role": "assistant", "content": "75", "reasoning": "carry the one"}]
TOOLS = [
    {"role": "system", "content": "Use tools."},
    {"role": "user", "content": "Weather in Zürich?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "24 °C", "tool_call_id": "abcdefghi"},
]
PARTS = [
    {"role": "system", "content": [{"type": "text", "text": "Look."}]},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is it? "}]},
]
ODD = [{"role": "assistant", "content": "I begin."}, {"role": "assistant", "content": "I go on."}]

CONSTRUCTS = {"z": [1, 2.0, 1e-7, True, None], "a": {"é": "\"q\"\n\u0001🎉"}, "e": [], "o": {}}
CASES = [
    ("llama3", SHORT, {}),
    ("llama3", LONG, {"add_generation_prompt": True}),
    ("llama3", TOOLS, {"tools": [WEATHER], "add_generation_prompt": True}),
    ("llama3", TOOLS, {"tools": [WEATHER], "tools_in_user_message": False, "date_string": "1 Jan 2020"}),
    ("qwen3", SHORT, {"add_generation_prompt": True}),
    ("qwen3", SHORT, {"add_generation_prompt": True, "enable_thinking": False}),
    ("qwen3", LONG, {"add_generation_prompt": True}),
    ("qwen3", REASONED, {}),
    ("qwen3", TOOLS, {"tools": [WEATHER], "add_generation_prompt": True}),
    ("gemma", LONG, {"add_generation_prompt": True}),
    ("gemma", PARTS, {"add_generation_prompt": True}),
    ("gemma", ODD, {}),
    ("mistral", SHORT, {}),
    ("mistral", LONG, {}),
    ("mistral", TOOLS, {"tools": [WEATHER]}),
    ("mistral", ODD, {}),
    ("qwen3", REASONED, {"continue_final_message": True}),
    ("llama3", LONG[:3], {"continue_final_message": True}),
    ("gemma", [{"role": "user", "content": "Go"}, {"role": "assistant", "content": [{"type": "text", "text": "1, 2, "}]}],
     {"continue_final_message": True}),
    ("chatml_training", LONG, {}),
    ("chatml_training", SHORT, {"add_generation_prompt": True}),
    ("constructs", LONG, {"sample": CONSTRUCTS}),
]


def render(template, messages, options):
    return render_source((HERE / f"{template}.jinja").read_text(encoding="utf-8"), messages, options)


def render_source(source, messages, options):
    messages = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        rendered, _ = chat_template_utils.render_jinja_template([messages], chat_template=source, **TOKENS, **options)
        return {"expected": rendered[0]}
    except Exception as error:
        return {"error": str(error)}


cases = [
    {"template": template, "messages": messages, "options": options, **render(template, messages, options)}
    for template, messages, options in CASES
]
text = json.dumps({"tokens": TOKENS, "now": NOW, "cases": cases}, ensure_ascii=False, indent=1)
(HERE / "reference.json").write_text(text + "\n", encoding="utf-8")
features = [{"source": source, **render_source(source, SHORT, SAMPLE)} for source in FEATURES]
text = json.dumps({"sample": SAMPLE, "now": NOW, "features": features}, ensure_ascii=False, indent=1)
(HERE / "features.json").write_text(text + "\n", encoding="utf-8")
for case in cases + features:
    if "error" in case:
        print(case.get("template", case.get("source")), case["error"])
