"""Small tokenizers of every kind that published models have, trained on the spot and saved by the libraries themselves.

The real vocabularies are not at hand; what is proved on these is the way from a text to ids, whatever the vocabulary.
Needs sentencepiece, tokenizers, transformers and what compare_tokens.py needs.
"""

import io
import json
import os
import pathlib
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import sentencepiece
import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import (AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers)

from compare_tokens import SENTENCES, Generator

ROOT = pathlib.Path(__file__).resolve().parent.parent
RULES = {"ﬁ": "fi", "Ａ": "A", "ａ": "a", "e\u0301": "é", "\t": " ", "\n": " ", "\u3000": " ", "…": "...", "\u00a0": " ",
         "™": "TM", "\u200b": "", "½": "1/2", "Ä": "ä", "E": "e", "\u2581": " ", "ไ": "ai ", "  ": " "}
SCRIPTS = [(0x400, 0x450), (0x3B0, 0x3CA), (0x5D0, 0x5EB), (0x621, 0x64B), (0x905, 0x940), (0xE01, 0xE31),
           (0x3041, 0x3097), (0x4E00, 0x4E40), (0xAC00, 0xAC40), (0x10A0, 0x10C0), (0xC0, 0x180), (0x1F600, 0x1F640)]


def corpus(count=6000):
    """Sentences of many scripts, with this project's prose among them."""
    generator = Generator(9)
    prose = [line.strip() for path in sorted(ROOT.glob("*.md")) for line in path.read_text().splitlines()]
    lines = [line for line in prose if line] + SENTENCES * 3
    while len(lines) < count:
        first, last = generator.pick(SCRIPTS)
        word = lambda: "".join(chr(generator.random.randrange(first, last)) for _ in range(generator.random.randrange(1, 6)))
        words = [word() for _ in range(generator.random.randrange(2, 9))]
        lines += [generator.caption(), " ".join(words), generator.caption().replace(" ", "  ")]
    return lines


def character_rules():
    with open(pathlib.Path(tempfile.gettempdir()) / "character_rules.tsv", "w") as file:
        for source, target in RULES.items():
            codes = [" ".join(f"{ord(character):x}" for character in text) for text in (source, target)]
            file.write("\t".join(codes) + "\n")
    return file.name


def sentence_piece(lines, kind="unigram", rule="custom", size=1000, **options):
    """A trained sentencepiece model as bytes."""
    if rule == "custom":
        options["normalization_rule_tsv"] = character_rules()
    else:
        options["normalization_rule_name"] = rule
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type=kind, vocab_size=size, hard_vocab_limit=False,
        character_coverage=0.98, minloglevel=2, num_threads=1, **options)
    return model.getvalue()


T5_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
GEMMA_IDS = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "bos_piece": "<bos>", "eos_piece": "<eos>"}


def write(folder, files, model_type=None, **config):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def sig_lip_folders(lines):
    """SigLIP v1: sentencepiece itself at work, in every variant of model and normaliser."""
    variants = {
        "unigram": dict(), "bpe": dict(kind="bpe"),
        "unigram-bytes": dict(byte_fallback=True, size=1300), "bpe-bytes": dict(kind="bpe", byte_fallback=True, size=1300),
        "unigram-identity": dict(rule="identity"), "bpe-identity": dict(kind="bpe", rule="identity"),
        "unigram-nmt_nfkc": dict(rule="nmt_nfkc"), "bpe-nmt_nfkc": dict(kind="bpe", rule="nmt_nfkc"),
        "unigram-nmt_nfkc_cf": dict(rule="nmt_nfkc_cf"), "bpe-nmt_nfkc_cf": dict(kind="bpe", rule="nmt_nfkc_cf"),
        "unigram-no-prefix": dict(add_dummy_prefix=False),
        "bpe-no-prefix": dict(kind="bpe", add_dummy_prefix=False),
        "unigram-extra-space": dict(remove_extra_whitespaces=False),
        "bpe-extra-space": dict(kind="bpe", remove_extra_whitespaces=False),
        "unigram-suffix": dict(treat_whitespace_as_suffix=True),
        "bpe-suffix": dict(kind="bpe", treat_whitespace_as_suffix=True),
        "unigram-symbols": dict(user_defined_symbols=["photo of", "Ä", "ﬁ", "é"], control_symbols=["<ctl>", "z"]),
        "bpe-symbols": dict(kind="bpe", user_defined_symbols=["photo of", "Ä", "ﬁ", "é"], control_symbols=["<ctl>", "z"]),
        "bpe-space-pieces": dict(kind="bpe", split_by_whitespace=False, allow_whitespace_only_pieces=True,
                                 remove_extra_whitespaces=False),
    }
    for name, options in variants.items():
        model = sentence_piece(lines, **T5_IDS, **options)
        config = dict(tokenizer_class="SiglipTokenizer", do_lower_case="identity" not in name and "symbols" not in name)
        if name in ("unigram", "bpe"):
            config["added_tokens_decoder"] = {
                "1": dict(content="</s>", lstrip=True, normalized=False, rstrip=True, single_word=False, special=True),
                "2": dict(content="<unk>", lstrip=True, normalized=False, rstrip=True, single_word=False, special=True),
            }
        yield f"siglip-{name}", {"spiece.model": model}, "siglip", config
    # Pieces that are not used are taken apart again.
    for kind in ("unigram", "bpe"):
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(sentence_piece(lines, kind, **T5_IDS))
        for index, piece in enumerate(proto.pieces):
            if index > 5 and index % 3 == 0 and len(piece.piece) > 1:
                piece.type = 5
        yield (f"siglip-{kind}-unused", {"spiece.model": proto.SerializeToString()}, "siglip",
               dict(tokenizer_class="SiglipTokenizer"))


def trained(tokenizer, trainer, lines):
    tokenizer.train_from_iterator(lines, trainer)
    return json.loads(tokenizer.to_str())["model"]


def bert_words(lines, lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=900, limit_alphabet=250, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return trained(tokenizer, trainer, lines)["vocab"]


def clip_words(lines):
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", True),
        pre_tokenizers.ByteLevel(False)])
    model = trained(tokenizer, trainers.BpeTrainer(
        vocab_size=1400, show_progress=False, end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet()), lines)
    vocabulary = dict(model["vocab"])
    for token in list(vocabulary):
        if len(token) == 1:
            vocabulary.setdefault(token + "</w>", len(vocabulary))
    for token in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[token] = len(vocabulary)
    return vocabulary, [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]


def gemma_words(lines):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    model = trained(tokenizer, trainers.BpeTrainer(
        vocab_size=1100, limit_alphabet=200, show_progress=False, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]), lines)
    vocabulary = dict(model["vocab"])
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for token in ("\n\n", "▁▁", "▁▁▁", "<unused1>"):
        vocabulary.setdefault(token, len(vocabulary))
    return vocabulary, [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]


def saved(tokenizer, folder, model_type=None):
    """A tokenizer as `save_pretrained` writes it."""
    tokenizer.save_pretrained(folder)
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))


def class_folders(lines, root):
    """Folders of the classes that transformers rebuilds, with and without tokenizer.json."""
    vocabulary, merges = clip_words(lines)
    write(root / "clip-files", {"vocab.json": json.dumps(vocabulary), "merges.txt": "\n".join(["#version: 0.2", *merges, ""])},
          "clip", tokenizer_class="CLIPTokenizer")
    saved(transformers.AutoTokenizer.from_pretrained(root / "clip-files"), root / "clip-json", "clip")
    old = dict(content="<|startoftext|>", lstrip=False, normalized=True, rstrip=False, single_word=False, __type="AddedToken")
    write(root / "clip-old", {"vocab.json": json.dumps(vocabulary), "merges.txt": "\n".join(["#version: 0.2", *merges, ""])},
          "clip", tokenizer_class="CLIPTokenizer", bos_token=old, eos_token=dict(old, content="<|endoftext|>"))

    for name, lowercase, extra in (("uncased", True, {}), ("cased", False, {}), ("accents", True, {"strip_accents": False}),
                                   ("ideographs", True, {"tokenize_chinese_chars": False})):
        words = bert_words(lines, lowercase)
        text = "\n".join(sorted(words, key=words.get)) + "\n"
        write(root / f"bert-{name}", {"vocab.txt": text}, "bert", tokenizer_class="BertTokenizer",
              do_lower_case=lowercase, **extra)
        if name == "uncased":
            saved(transformers.AutoTokenizer.from_pretrained(root / "bert-uncased"), root / "bert-json", "bert")
            write(root / "bert-bare", {"vocab.txt": text}, "bert")

    for rule in ("custom", "nmt_nfkc", "nmt_nfkc_cf", "identity"):
        suffix = "" if rule == "custom" else f"-{rule}"
        model = sentence_piece(lines, rule=rule, bos_id=0, pad_id=-1, eos_id=2, unk_id=1)
        write(root / f"xlm-roberta{suffix}", {"sentencepiece.bpe.model": model}, "xlm-roberta",
              tokenizer_class="XLMRobertaTokenizer")
        model = sentence_piece(lines, rule=rule, **T5_IDS)
        write(root / f"t5{suffix}", {"spiece.model": model}, "mt5", tokenizer_class="T5Tokenizer", extra_ids=0)
        if rule == "identity":
            continue
        saved(transformers.AutoTokenizer.from_pretrained(root / f"xlm-roberta{suffix}"), root / f"xlm-roberta-json{suffix}",
              "xlm-roberta")
        saved(transformers.AutoTokenizer.from_pretrained(root / f"t5{suffix}"), root / f"t5-json{suffix}", "t5")
    write(root / "t5-sentinels", {"spiece.model": sentence_piece(lines, **T5_IDS)}, "t5", tokenizer_class="T5Tokenizer")

    vocabulary, merges = gemma_words(lines)
    plain = transformers.GemmaTokenizer(vocab=vocabulary, merges=merges, padding_side="right")
    plain.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 <eos>:0", pair="$A:0 <eos>:0 $B:1 <eos>:1", special_tokens=[("<eos>", 1)])
    plain.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("▁▁", normalized=False), AddedToken("<unused1>", normalized=False)])
    saved(plain, root / "gemma-json", "siglip")
    shutil.copytree(root / "gemma-json", root / "siglip2")
    (root / "siglip2/config.json").write_text(json.dumps({"model_type": "siglip2"}))
    model = sentence_piece(lines, "bpe", "identity", 1300, byte_fallback=True, remove_extra_whitespaces=False,
                           add_dummy_prefix=False, **GEMMA_IDS)
    write(root / "gemma-model", {"tokenizer.model": model}, "gemma", tokenizer_class="GemmaTokenizer", add_eos_token=True,
          padding_side="right")


GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")


def library_folders(lines):
    """tokenizer.json as it stands: models, normalizers, pre-tokenizers and post-processors in many combinations."""
    n, p = normalizers, pre_tokenizers
    charsmap = sentencepiece_model_pb2.ModelProto()
    charsmap.ParseFromString(sentence_piece(lines))
    charsmap = charsmap.normalizer_spec.precompiled_charsmap
    specials = ["<s>", "</s>", "<unk>"]
    bpe = lambda **options: (models.BPE(unk_token="<unk>", **options), trainers.BpeTrainer(
        vocab_size=700, limit_alphabet=150, show_progress=False, special_tokens=specials,
        **{key: options[key] for key in ("end_of_word_suffix", "continuing_subword_prefix") if key in options}))
    byte_bpe = lambda: (models.BPE(), trainers.BpeTrainer(
        vocab_size=900, show_progress=False, initial_alphabet=p.ByteLevel.alphabet(), special_tokens=specials))
    unigram = lambda: (models.Unigram(), trainers.UnigramTrainer(vocab_size=1500, show_progress=False, special_tokens=specials, unk_token="<unk>"))
    piece = lambda: (models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer(
        vocab_size=700, limit_alphabet=150, show_progress=False, special_tokens=specials))
    variants = {
        "gpt2": (byte_bpe, None, p.ByteLevel(add_prefix_space=True)),
        "gpt4": (byte_bpe, n.NFC(), p.Sequence([p.Split(Regex(GPT4), "isolated"), p.ByteLevel(False, use_regex=False)])),
        "byte-normalizer": (byte_bpe, n.Sequence([n.Lowercase(), n.ByteLevel()]), p.Split("Ġ", "merged_with_next")),
        "nfkc-metaspace": (unigram, n.Sequence([n.NFKC(), n.Replace(Regex(r" {2,}"), " ")]), p.Metaspace()),
        "nfkd-first": (unigram, n.Sequence([n.NFKD(), n.Lowercase()]), p.Metaspace(prepend_scheme="first")),
        "nfkd-strip": (unigram, n.Sequence([n.NFKD(), n.StripAccents(), n.Lowercase(), n.Strip()]), p.Metaspace()),
        "nfd-whitespace": (bpe, n.Sequence([n.NFD(), n.StripAccents()]), p.Whitespace()),
        "never-metaspace": (bpe, n.Prepend("▁"), p.Metaspace(prepend_scheme="never", split=False)),
        "fuse-digits": (lambda: bpe(fuse_unk=True), n.Nmt(), p.Sequence([p.WhitespaceSplit(), p.Digits(True)])),
        "suffix-digits": (lambda: bpe(end_of_word_suffix="</w>"), n.Lowercase(), p.Sequence([p.WhitespaceSplit(), p.Digits()])),
        "prefix-punctuation": (lambda: bpe(continuing_subword_prefix="##"), None,
                               p.Sequence([p.WhitespaceSplit(), p.Punctuation("merged_with_previous")])),
        "precompiled": (unigram, n.Sequence([n.Precompiled(charsmap), n.Strip(right=False)]), p.Metaspace()),
        "contiguous": (piece, n.NFKC(), p.Sequence([p.Whitespace(), p.Punctuation("contiguous")])),
        "merged": (piece, None, p.Sequence([p.Split(Regex(r"\s+"), "removed"), p.Punctuation("merged_with_next")])),
        "removed": (piece, n.BertNormalizer(strip_accents=False), p.Sequence([p.BertPreTokenizer(), p.Punctuation("removed")])),
        "isolated-words": (bpe, None, p.Split(Regex(r"\p{L}+|[^\s]"), "isolated")),
    }
    for name, (make, normalizer, pre_tokenizer) in variants.items():
        model, trainer = make()
        tokenizer = Tokenizer(model)
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.train_from_iterator(lines, trainer)
        content = json.loads(tokenizer.to_str())
        if name == "never-metaspace":  # bytes for what is unknown
            content["model"]["byte_fallback"] = True
            for byte in range(256):
                content["model"]["vocab"][f"<0x{byte:02X}>"] = len(content["model"]["vocab"])
        if name == "gpt4":
            content["model"]["ignore_merges"] = True
            content["model"]["vocab"]["Ġphotograph"] = len(content["model"]["vocab"])
        if name in ("precompiled", "nfkc-metaspace"):
            content["model"]["byte_fallback"] = name == "precompiled"
            for byte in range(256):
                content["model"]["vocab"].append([f"<0x{byte:02X}>", 0.0])
        tokenizer = Tokenizer.from_str(json.dumps(content))
        ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
        tokenizer.post_processor = {
            "gpt2": processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing("<s> $A", "<s> $A $B", ids)]),
            "gpt4": processors.RobertaProcessing(ids[1], ids[0]),
            "contiguous": processors.BertProcessing(ids[1], ids[0]),
            "byte-normalizer": processors.ByteLevel(),
        }.get(name, processors.TemplateProcessing("<s> $A </s> </s>", "<s> $A $B", ids))
        tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<cat>", rstrip=True, normalized=True)])
        tokenizer.add_tokens([AddedToken("photo", single_word=True, normalized=False), AddedToken("Ärger", normalized=True),
                              AddedToken("ab", normalized=True), AddedToken("abc", normalized=False)])
        yield f"library-{name}", {"tokenizer.json": tokenizer.to_str()}, None, dict(tokenizer_class="PreTrainedTokenizerFast")


def make(root):
    """Writes all folders below `root`."""
    lines = corpus()
    for name, files, model_type, config in [*sig_lip_folders(lines), *library_folders(lines)]:
        write(root / name, files, model_type, **config)
    class_folders(lines, root)


class Texts(Generator):
    """compare_tokens.py's kinds of texts, and some more that these tokenizers are sensitive to."""

    def added(self):
        pieces = ["</s>", "<s>", "<unk>", "<pad>", "<mask>", "[SEP]", "[CLS]", "[MASK]", "<bos>", "<eos>", "<|endoftext|>",
                  "<|startoftext|>", "photo", "photos", "a photo", "<cat>", "<CAT>", "Ärger", "ärger", "A\u0308rger", "ab",
                  "abc", "AB", "\n\n", "▁▁", "▁", "<unused1>", "<extra_id_0>", "<extra_id_99>", " ", "  ", "z", "<ctl>",
                  "<0x41>", "</w>", "##a", "▁▁▁", "\u3000", "_", "ﬁ", "e\u0301", "Ä", "…", "½"]
        return "".join(self.pick(pieces) for _ in range(self.random.randrange(1, 9)))

    def clusters(self):
        pieces = ["a", "A", "E", "e", "é", "\u0301", "\u200d", "©", "®", "\u0600", "\r", "\n", "\u0308", "ไ", "ำ", "\u1100",
                  "\u1161", "\u11a8", "가", "\U0001f600", "\u0903", "Ａ", "ﬁ", "\ufe0f", "½", "\u06dd", "क", "्", "ष"]
        return "".join(self.pick(pieces) for _ in range(self.random.randrange(1, 12)))

    def foreign(self):
        first, last = self.pick(SCRIPTS)
        word = lambda: "".join(chr(self.random.randrange(first, last)) for _ in range(self.random.randrange(1, 7)))
        return self.join(word, self.random.randrange(1, 8))

    def kinds(self):
        return [*super().kinds(), self.added, self.added, self.clusters, self.foreign, self.caption, self.caption]
