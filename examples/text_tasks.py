"""Multiple-choice tasks for `fairstep eval` from the text that a corpus holds out: three of each validation set.

python examples/text_tasks.py stdlib tasks, and fairstep eval RUN --task-folder tasks --tasks stdlib_next ...

One answer of four is right. next: the passage that follows; word: the next word; order: the words in their own order.
"""

import argparse
import json
import random
import re
from pathlib import Path

from fairstep.data import find_corpus

TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {data}}}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
target_delimiter: ""
metric_list: [{{metric: acc}}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", help="a name, a folder or an identity, as `fairstep data list` prints it")
    parser.add_argument("out", type=Path)
    parser.add_argument("--questions", type=int, default=500, help="of each task")
    chosen = parser.parse_args()
    corpus = find_corpus(chosen.corpus) or parser.error("no such corpus; `fairstep data list` prints what there is")
    chosen.out.mkdir(parents=True, exist_ok=True)
    for text, tokens in corpus.validation_sets().items():
        documents = corpus.decode(tokens[: 500 * chosen.questions]).split("<|endoftext|>")
        words = [re.findall(r"\s*\S+", document) for document in documents]
        passages = [of[n : n + 24] for of in words for n in range(0, len(of) - 23, 24)]
        passages = [p for p in passages if len("".join(p)) <= 200][: chosen.questions]  # which small contexts hold
        draw = random.Random(0)
        for kind in ("next", "word", "order"):
            length = 1 if kind == "word" else 8
            docs = []
            for passage in passages:
                context, right = passage[:16], passage[16 : 16 + length]
                others = [p[16 : 16 + length] for p in draw.sample(passages, 8) if p[16 : 16 + length] != right]
                wrong = [draw.sample(right, length) for _ in range(3)] if kind == "order" else others[:3]
                label = draw.randrange(4)
                choices = ["".join(answer) for answer in (*wrong[:label], right, *wrong[label:])]
                docs.append({"context": "".join(context).strip(), "choices": choices, "label": label})
            data = chosen.out.absolute() / f"{Path(text).stem}_{kind}.jsonl"
            data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
            (chosen.out / f"{data.stem}.yaml").write_text(TASK.format(name=data.stem, data=data))
            print(data.stem)


if __name__ == "__main__":
    main()
