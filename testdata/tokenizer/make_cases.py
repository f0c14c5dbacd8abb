"""Makes tiny_instruct.json and small_*.json: texts and the ids that Hugging Face's `tokenizers` gives for them.

    pip install tokenizers
    python make_cases.py

Each case: text, ids (special tokens in the text are text), ids_special (they are tokens), decoded (of ids_special,
special tokens kept), decoded_skip (without them). No BOS is added. `tokenizer` names the file, relative to the
project's root, or holds it.
"""
import copy
import json
import os
import random

from tokenizers import Tokenizer

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
TINY = "models/tiny-instruct/tokenizer.json"

TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", " \n \n  x", "a\n\n\nb", "x  \n  y", "\u00a0x", "\u3000 x",
    "\u180ex", "a\u180e b", "\u2028\u2029", "\u200b", "\u0085a", "\x1c\x1d", "\x00\x01\x7f", "\v\f",
    "Hello", "Hello world", " Hello", "Hello, world!", "Write a short explanation of portable torch.compile caches.",
    "What is 12 + 7?", "I'll we've they're he'd it's I'm can't", "I'LL WE'VE THEY'RE HE'D IT'S I'M CAN'T", "'\u017f 'K\u212a 'ſx",
    "1", "12", "123", "1234", "12345", "3.14159", "1,000,000", "\u0661\u0662\u0663\u0664", "\u00bd\u2154 \u2167", "x1y22z333",
    "e\u0301 \u00e9 a\u0308\u0328", "\u0301", "Führer Straße ÅNGSTRÖM", "нещо на Български", "កាន់តែពិសេស", "我想在apple工作1314151天～", "こんにちは", "שלום עולם",
    "👋😀🎉", "🚀 (normal) 😶‍🌫️ (joined) ✅", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "\U0001d7d8\U0001d400", "\ufeffbom", "\uffff\ufffd\ufffe", "\U0010ffff",
    "!!!???...", "----====", "''''```\"\"\"", "a_b-c/d\\e", "{\"name\": \"Ada\", \"age\": 7}", "def f(x):\n    return x  # done\n",
    "\tif (a) {\n\t\tb();\n\t}\r\n", "https://example.com/a?b=c&d=%20", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ababababababababababababababababababababababababababababababababababababababab", "thethethethethethethethethethethethethethe",
    "<|begin_of_text|>", "<|begin_of_text|>Hello<|eot_id|>", " <|eot_id|> x", "<|eot_id|><|eot_id|>", "<|eot_id|", "<|<|eot_id|>|>", "a<|eot_id|>b<",
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|unknown|>", "<|EOT_ID|>",
]


def random_texts(count):
    rng = random.Random(7)
    alphabets = [
        "abcdefgh '", "theand ", " \n\t\r", "0123456789 .", "'sStTdDmMlLvVrReE ", "éüßŁñ аби ", "漢字かな。 ", "😀👋🏽\u200d🎉 ", "<|eot_id|> ",
        "".join(chr(c) for c in range(0x20, 0x7F)), "\u00a0\u1680\u2003\u2028\u202f\u205f\u3000\u180e\u200b x\n",
    ]
    texts = []
    for _ in range(count):
        parts = ["".join(rng.choice(rng.choice(alphabets)) for _ in range(rng.randint(1, 6))) for _ in range(rng.randint(1, 6))]
        texts.append("".join(parts))
    for _ in range(count // 4):
        texts.append("".join(chr(rng.choice([rng.randrange(0x20, 0xD800), rng.randrange(0xE000, 0x110000)])) for _ in range(rng.randint(1, 12))))
    return texts


def cases(tokenizer, texts):
    out = []
    for text in texts:
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        special = tokenizer.encode(text, add_special_tokens=False).ids
        out.append({"text": text, "ids": ids, "ids_special": special, "decoded": tokenizer.decode(special, skip_special_tokens=False),
                    "decoded_skip": tokenizer.decode(special, skip_special_tokens=True)})
    return out


def variants(tiny):
    """The same vocabulary under other rules: what Llama 3 does not use but preheat supports."""
    merged = copy.deepcopy(tiny)
    merged["model"]["ignore_merges"] = False
    merged["model"]["merges"] = [" ".join(pair) for pair in tiny["model"]["merges"]]
    yield "merges_as_strings", merged

    gpt2 = copy.deepcopy(tiny)
    gpt2["model"]["ignore_merges"] = False
    gpt2["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]}
    gpt2["post_processor"] = None
    yield "digits_gpt2", gpt2

    added = copy.deepcopy(tiny)
    names = [("<think>", False, False), ("<thinking>", False, True), ("the", False, True), ("<|eot", False, False), ("é>", True, False)]
    for i, (content, special, normalized) in enumerate(names):
        known = added["model"]["vocab"].get(content)
        added["added_tokens"].append({"id": known if known is not None else 2048 + i, "content": content, "single_word": False,
                                      "lstrip": False, "rstrip": False, "normalized": normalized, "special": special})
    yield "more_added", added


def write(name, tokenizer_field, tokenizer, texts):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".json"), "w", encoding="ascii") as f:
        f.write(json.dumps({"tokenizer": tokenizer_field})[:-1] + ', "cases": [\n')
        f.write(",\n".join(json.dumps(case) for case in cases(tokenizer, texts)))
        f.write("\n]}\n")


def main():
    with open(os.path.join(ROOT, TINY), encoding="utf-8") as f:
        tiny = json.load(f)
    write("tiny_instruct", TINY, Tokenizer.from_str(json.dumps(tiny)), TEXTS + random_texts(120))
    extra = ["<think>the <thinking>he</thinking>", "<|eot_id|>", "é>é>", "<|eot", "<|eot_id|>the<|eot"]
    for name, variant in variants(tiny):
        write(name, json.dumps(variant, separators=(",", ":")), Tokenizer.from_str(json.dumps(variant)), TEXTS + extra + random_texts(20))


if __name__ == "__main__":
    main()
