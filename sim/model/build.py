"""Makes the tokenizer of the simulated model: ``python -m sim.model.build``.

A byte-level BPE of 2,048 tokens, trained on text written here: sentences, JSON and Python as agents exchange them.
Every common word is one token, so random words can be cut anywhere and still tokenise to the same ids.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from sim.model import MODEL_DIRECTORY

VOCABULARY_SIZE = 2048
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEXT_TOKENS = ("<tool_call>", "</tool_call>")
"""Tokens of their own which are nevertheless part of the answer's text."""

WORDS = """
a able about above account across act action active actual add address after again agent all allow almost alone along
already also always amount an and another answer any apart appear apply approach are area argument around array as ask
assert assign assistant assume at attempt available await away back bad base basic batch be because become been before
begin behind being below best better between big block body book both bottom branch bring broken buffer build but button
by cache call called can cannot capital care carry case cause center certain chain chance change channel check child
choice choose city class clean clear client close cloud code collect column come command comment common company compare
compile complete compute config connect consider contain content context continue control convert copy core correct cost
could count country cover create cross current cut data database date day debug decide deep default define delete depend
deploy describe design detail develop device different direct directory disk display do document does done door double
down draft draw drive drop during each early easy edge edit effect either element else empty enable end engine enough
enter entire entry equal error even event every exact example except exist expect explain export express extend extra
fact fail failed fall false far fast feature feel few field file fill filter final find fine finish first fit fix flag
flat float flow follow food for force form format forward found free from front full function further future general
generate get give global go goal good graph great green ground group grow guide half hand handle happen hard has hash
have head hear heavy height held help here hidden high history hold home hope host hour house how however human idea if
image import important in include increase index info initial inner input insert inside install instance instead int
into invalid is issue it item its job join just keep key kind know label land language large last late later layer lead
learn least leave left length less let level library life light like limit line link list little live load local lock
log long look loop lost low machine made main make man manage many map mark market match matter may mean measure member
memory merge message method middle might mind minute miss missing mode model module moment money month more most mount
move much multiple must name native near need network never new next night no node none normal not note nothing notice
now null number object observe obtain of off offer office often old on once one only open operation option or order
other our out output over own pack package page pair parallel parent parse part partial pass past patch path pattern
pay people per perform perhaps period person pick piece place plan play please point policy pool port position possible
post power prepare present press previous price print prior private problem process produce product program project
prompt proper provide public pull push put query question queue quick quite raise random range rate raw reach read
ready real reason receive recent record reduce refer regular release remain remember remote remove repeat replace
report repository request require reset resolve resource respond response rest result resume retry return review right
role root round route row rule run safe same sample save say scale schedule scope score script search second section see
select self send sense sentence separate server service session set several shall shape share shell shift short should
show side sign signal simple since single site size skip sleep slow small so social some soon sort source space speak
special speed split stack stage stand start state status stay step still stop storage store story stream strict string
strong structure student study style subject submit such suggest suite sum summary support sure switch symbol system
table tag take talk target task team tell temperature temporary term test text than that the their them then there these
they thing think third this those though thought thread three through throw time title to today together token too tool
top total touch toward town trace track traffic train transform travel tree trigger true trust try turn two type under
understand unique unit until update upgrade upper use user usual valid value variable various vector verify version very
view visible visit voice wait walk wall want warning was watch water way we weather week weight well were west what when
where which while white who whole why wide will window with within without word work worker world worry worth would
wrap write wrong year yes yet you young your zero zone
"""

NAMES = ("path", "query", "city", "file_name", "line_count", "user_id", "tool_name", "max_items", "session", "state")

CHAT_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- 'You may call these functions:\\n' }}
{%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}
{{- 'To call one, answer with <tool_call>{"name": ..., "arguments": {...}}</tool_call>.<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if not (loop.first and message.role == 'system') %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
{{- '}</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


def corpus(lines: int = 12_000) -> Iterator[str]:
    rng = random.Random(1)
    words = WORDS.split()
    writers = (_sentence, _sentence, _sentence, _json, _python)
    for _ in range(lines):
        yield rng.choice(writers)(rng, words)


def _sentence(rng: random.Random, words: list[str]) -> str:
    text = " ".join(rng.choices(words, k=rng.randint(5, 16)))
    return text.capitalize() + rng.choice([".", ".", "?", ": " + str(rng.randint(0, 5000)) + ".", ",\n"])


def _json(rng: random.Random, words: list[str]) -> str:
    phrase = " ".join(rng.choices(words, k=3))
    values = [phrase, rng.randint(0, 9999), rng.random() < 0.5, None]
    call = {"name": rng.choice(words), "arguments": {name: rng.choice(values) for name in rng.sample(NAMES, 3)}}
    schema = {
        "type": "object",
        "properties": {rng.choice(NAMES): {"type": "string", "description": f"The {phrase}"}},
    }
    return json.dumps(rng.choice([call, {"type": "function", "function": {**call, "parameters": schema}}]))


def _python(rng: random.Random, words: list[str]) -> str:
    one, two, three = rng.sample(words, 3)
    name = rng.choice(NAMES)
    return rng.choice([
        f"def {one}_{two}({name}: str) -> int:\n    for {three} in range(len({name})):\n"
        f"        print({three}, {name})\n    return {rng.randint(0, 99)}\n",
        f"import {one}\nfrom {two} import {three}\n\nclass {one.title()}{two.title()}:\n"
        f"    def __init__(self) -> None:\n        self.{name} = [{three}]\n",
        f"    if {name} is None:\n        raise ValueError(f\"no {one} in {{{two}!r}}\")\n    assert {one} == {two}\n",
    ])  # fmt: skip


def build() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(TEXT_TOKENS),
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in TEXT_TOKENS])
    return tokenizer


def main() -> None:
    tokenizer = build()
    tokenizer.save(str(MODEL_DIRECTORY / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131_072,
        "chat_template": CHAT_TEMPLATE,
    }
    (MODEL_DIRECTORY / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
