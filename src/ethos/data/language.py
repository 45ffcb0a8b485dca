"""Whether a reply is in another language than it should be: evidence by script and by function words, no model.

A script that the text beside it does not have, or function words of another language with next to none of its own:
either is enough. A text without evidence passes, as does a reply to a prompt that names a language or asks for a
translation. Eight languages are told apart by their function words, any script by its letters.
"""

import re
import unicodedata
from collections import Counter
from functools import cache

ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "FULLWIDTH": "LATIN"}
"""Letters that are written beside others of the same language."""
FEWEST_LETTERS, SHARE_OF_LETTERS = 8, 0.1
"""Letters of another script, and their share, from which on they are more than a name or a quoted word."""
FEWEST_HITS = 4
"""Function words of a language that make a text be in it; twice as many as of any other."""
FEWEST_BESIDE, FAR_LESS = 2, 3
"""Function words that tell the language of what stands beside it, and how many times fewer another's are."""
FUNCTION_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        "English": "the and to of that is you it for with your are this have not they what but will her his who would "
        "i my we how can could should when she about from if there or",
        "German": "der das und ist nicht ich ein eine mit zu auf für dem von sich es wie auch wenn sie haben bist",
        "French": "le les et est pas vous je une des que pour dans qui avec sur mais votre elle cette nous vos leur",
        "Spanish": "el los las y es que una por con para lo del pero como su más esta usted está ella tu muy",
        "Italian": "il che di è non una con del sono gli della ma più questo suo anche lei nella hai",
        "Portuguese": "os que não uma com para da em é se dos mas como você sua mais isso ela ao seu na",
        "Dutch": "het een en niet van dat ik je op te zijn voor met maar ook aan dit hij wordt deze bij jouw",
        "Swedish": "och att det som på är av för med inte jag du om ett kan har så din vad",
    }.items()
}
NAMES_A_LANGUAGE = re.compile(
    r"\b(translat\w*|language|english|german|french|spanish|italian|portuguese|dutch|swedish|latin|greek|russian|arabic"
    r"|hebrew|hindi|chinese|mandarin|japanese|korean|thai|turkish|polish|ukrainian)\b",
    re.IGNORECASE,
)


def in_another_language(text: str, beside: str) -> bool:
    """Whether a text is in another script or language than what stands beside it: its prompt, its constitution."""
    return not NAMES_A_LANGUAGE.search(beside) and (_in_another_script(text, beside) or _in_other_words(text, beside))


def _in_another_script(text: str, beside: str) -> bool:
    """Whether a good part of the letters is of a script that is not there beside it."""
    own, there = scripts(text), scripts(beside)
    foreign = sum(count for script, count in own.items() if script not in there)
    return bool(there) and foreign >= FEWEST_LETTERS and foreign > SHARE_OF_LETTERS * own.total()


def _in_other_words(text: str, beside: str) -> bool:
    """Whether the function words are of a language that shows far less beside it than another one does."""
    spoken, there = language(text), hits(beside)
    most = max(there.values())
    return spoken is not None and most >= FEWEST_BESIDE and FAR_LESS * there[spoken] <= most


def scripts(text: str) -> Counter[str]:
    """Letters of a text by script."""
    return Counter(_script(letter) for letter in text if letter.isalpha())


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    return ONE_SCRIPT.get(name, name)


def language(text: str) -> str | None:
    """The language that a text's function words are of; None where they do not tell."""
    (first, most), (_, second) = hits(text).most_common(2)
    return first if most >= FEWEST_HITS and most >= 2 * second else None


def hits(text: str) -> Counter[str]:
    """Function words of each language in a text."""
    words = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    return Counter({name: sum(words[word] for word in own & words.keys()) for name, own in FUNCTION_WORDS.items()})
