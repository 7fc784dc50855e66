"""Tokenizers whose pieces are learned from texts, the same on every machine: BERT's WordPiece, RoBERTa's BPE of bytes.

XLM-R's Unigram is in `unigram.py`. The work is done by Hugging Face's `tokenizers`; what hangs on the order of a hash
map in there is fixed before it starts.
"""

import json
from collections import Counter

from tinydistill.errors import WrongUsage

BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")                 # ids 0 to 4, in BERT's order
ROBERTA = ("<s>", "<pad>", "</s>", "<unk>")                           # ids 0 to 3; <mask> has the last id


# ---------------------------------------------------------------- WordPiece

def train_wordpiece(texts, vocabulary_size, lowercase=True):
    """A BERT tokenizer whose pieces are learned from `texts`: the same vocabulary in every process.

    Ids: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, single characters, then merged pieces by rank. Of the characters,
    the most frequent stay: a tenth of the vocabulary's size, but 40 to 1,000; words with a rarer one become [UNK].
    A small corpus may give fewer pieces than asked for: `tokenizer.get_vocab_size()` knows.
    Raises: WrongUsage where the texts hold no word, or the characters alone need more than `vocabulary_size`.
    Source: the most frequent pair is merged first, as in Sennrich et al. 2016, "Neural Machine Translation of Rare
    Words with Subword Units", section 3.2 (Schuster and Nakajima 2012, whose idea WordPiece is, merge the pair that
    gains the most likelihood). The library's trainer does that, but two things in it hang on the order of a hash map:
    which of the rarest characters stay, and the numbers of the `##x`, which break ties between equally frequent pairs.
    So both are fixed before it starts.
    """
    from tokenizers import trainers

    start = bert({token: i for i, token in enumerate(BERT)}, lowercase)
    words = count_words(start, texts)
    alphabet = frequent_characters(words, vocabulary_size)
    continuing = {character for word in words for character in word[1:]}
    first = [*BERT, *alphabet, *("##" + c for c in alphabet if c in continuing)]
    require_room(len(first), vocabulary_size)

    kept = set(alphabet)
    repeated = (" ".join([word] * count) for word, count in words.items() if kept.issuperset(word))
    start.train_from_iterator(repeated, trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, min_frequency=2, special_tokens=first, initial_alphabet=alphabet,
        limit_alphabet=len(alphabet), show_progress=False))
    return bert(start.get_vocab(), lowercase)


def bert(vocabulary, lowercase):
    """BERT's tokenizer around a vocabulary {piece: id}: `[CLS] A [SEP]`, `[CLS] A [SEP] B [SEP]` with token types."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")])
    tokenizer.add_special_tokens([token for token in BERT if token in vocabulary])
    return tokenizer


# ---------------------------------------------------------------- byte-level BPE

def train_bpe(texts, vocabulary_size):
    """A RoBERTa tokenizer, whose pieces are strings of bytes: the same vocabulary in every process.

    Ids: <s> 0, <pad> 1, </s> 2, <unk> 3, the 256 bytes, merged pieces by rank, <mask> at the end. No text has a byte
    that is not there, so that nothing becomes <unk>. The space before a word is part of it: of two equal words the one
    that begins a text has other pieces.
    A small corpus may give fewer pieces than asked for: `tokenizer.get_vocab_size()` knows.
    Raises: WrongUsage where the texts hold no word, or `vocabulary_size` is below 261.
    Source: Sennrich et al. 2016, section 3.2, over bytes, as in Radford et al. 2019, "Language Models are Unsupervised
    Multitask Learners", section 2.2.
    """
    from tokenizers import models, pre_tokenizers, trainers

    start, texts = _of_bytes(models.BPE()), list(texts)
    require_words(any(map(str.split, texts)))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    require_room(len(ROBERTA) + len(alphabet) + 1, vocabulary_size)
    start.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocabulary_size - 1, min_frequency=2, special_tokens=list(ROBERTA), initial_alphabet=alphabet,
        show_progress=False))
    learned = json.loads(start.to_str())["model"]
    pieces = learned["vocab"] | {"<mask>": len(learned["vocab"])}
    return framed(_of_bytes(models.BPE(pieces, [tuple(pair) for pair in learned["merges"]])))


def _of_bytes(model):
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


# ---------------------------------------------------------------- what the kinds share

def framed(tokenizer):
    """The tokenizer with RoBERTa's frame: `<s> A </s>` and `<s> A </s></s> B </s>`, all of token type 0."""
    from tokenizers import AddedToken, processors

    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")])
    tokenizer.add_special_tokens([*ROBERTA, AddedToken("<mask>", lstrip=True)])     # it takes the space before it
    return tokenizer


def count_words(tokenizer, texts):
    """How often the texts have each word, as the tokenizer parts them."""
    words = Counter()
    for text in texts:
        normalised = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalised))
    require_words(words)
    return words


def require_words(found):
    """Raises: WrongUsage where no word was found."""
    if not found:
        raise WrongUsage("need texts with at least one word to train a tokenizer; got none")


def frequent_characters(words, vocabulary_size):
    """The most frequent characters, sorted: a tenth of the vocabulary's size, but 40 to 1,000."""
    characters = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    by_frequency = sorted(characters, key=lambda c: (-characters[c], c))
    return sorted(by_frequency[:min(1000, max(40, vocabulary_size // 10))])


def require_room(needed, vocabulary_size):
    """Raises: WrongUsage where the vocabulary is smaller than what every one of these texts has."""
    if needed > vocabulary_size:
        raise WrongUsage(f"need a vocabulary of at least {needed} for the special tokens and single characters "
                         f"of these texts; got {vocabulary_size}")
