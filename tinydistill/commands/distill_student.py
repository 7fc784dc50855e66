"""The student of a distillation: which model it is, and with what weights it begins."""

from pathlib import Path

from tinydistill import hub
from tinydistill.architectures import build, fitted, has_fixed_heads, parse
from tinydistill.commands import common
from tinydistill.data import word_vectors
from tinydistill.errors import WrongUsage
from tinydistill.methods.start import copied
from tinydistill.students.bodies import on_body
from tinydistill.students.heads import with_head


def configured(args, method, size, teacher, rows):
    """(the student's configuration, the model it already is where the size is a directory)."""
    if Path(size).is_dir():
        if args.word_vectors:
            raise WrongUsage(f"--word-vectors are what a new student's words begin with: {size} goes on with its own")
        given = hub.read(size)
        if given.config.vocabulary != teacher.vocabulary:
            raise WrongUsage(f"need a student with the teacher's vocabulary of {teacher.vocabulary:,} word pieces; "
                             f"{size} has {given.config.vocabulary:,}")
        return given.config, given
    same_heads = method.equal_heads or (args.start or method.start) != "random"         # layers are compared, or copied
    config = parse(size, heads=teacher.heads if same_heads else None)
    if config.takes_body:        # the whole of its teacher's
        padded_to = {"length": args.max_length} if args.max_length and hasattr(config, "length") else {}
        return on_body(config.but(**padded_to), teacher), None
    if same_heads and config.heads and not has_fixed_heads(size):
        common.say(args, f"the student gets the teacher's {config.heads} attention heads")
    if config.model_type == teacher.model_type:
        config = fitted(config, token_types=teacher.token_types, eps=teacher.eps)
    if "positions" in config.as_dict():             # room for the teacher's longest sequence
        config = config.but(positions=config.positions - config.longest + teacher.longest)
    if "pair" in config.as_dict():                  # a BiLSTM that reads two sentences one by one
        config = config.but(pair=rows.are_pairs)
    return fitted(config, vocabulary=teacher.vocabulary, pad_id=teacher.pad_id, initial_std=args.init_std), None


def begun(args, start, config, head, tokenizer, teachers):
    """The student of a configuration with (head, labels), and the weights it begins with."""
    student = with_head(build(config, args.seed), *head, seed=args.seed)
    if args.word_vectors:
        if not hasattr(student, "set_words"):
            raise WrongUsage(f"--word-vectors are for students whose words begin with them, such as bilstm; got {config}")
        vectors = word_vectors.read(args.word_vectors).table(tokenizer, config.vocabulary, config.word_width)
        student.set_words(next(iter(student.embeddings.parameters())).array, vectors)
    source = hub.read(hub.located(args.start_from, "a model to start from")) if args.start_from else teachers[0]
    return copied(student, source, start)
