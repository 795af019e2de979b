"""Words that turn a statement around. Losing one changes the answer, so they are protected by default.

Only forms that rarely mean anything else are listed: Finnish and Danish "en", French "et" or Spanish "si"
would protect half of a text. A negation takes the word behind it along, because a "not" left standing alone
would negate whatever follows in the shortened text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

_BY_LANGUAGE = {
    "en": "not no never none neither nor nothing nobody nowhere cannot without unless except hardly "
    "aren't arent isn't isnt wasn't weren't don't dont doesn't didn't won't wouldn't can't couldn't "
    "shouldn't mustn't haven't hasn't hadn't needn't ain't shan't mightn't",
    "de": "nicht nichts nie niemals niemand kein keine keinen keinem keiner keines ohne weder",
    "fr": "pas jamais aucun aucune rien personne sans ne",
    "es": "no nunca jamás ningún ninguna ninguno nada nadie tampoco sin",
    "pt": "não nunca jamais nem nenhum nenhuma ninguém sem",
    "it": "non mai né nessun nessuno nessuna niente senza",
    "nl": "niet geen nooit niemand niets zonder",
    "sv da no": "inte ikke ikkje aldrig aldri ingen inget ingenting utan uden uten",
    "fi": "eivät emme ette ilman koskaan",
    "pl": "nie nigdy nikt nic bez żaden żadna",
    "cs sk": "ne není nikdy nikdo žádný bez",
    "ru uk": "не нет ни никогда никто ничего нельзя без немає ні ніколи",
    "ro": "nu niciodată nimic fără",
    "hu": "nem ne nincs soha semmi nélkül",
    "tr": "değil yok hayır asla hiç",
    "el": "δεν μην όχι ποτέ χωρίς κανένας",
    "ar": "لا لم لن ليس ليست ليسوا غير بدون دون",
    "fa": "نه نیست نیستند نبود ندارد نمی بدون هیچ",
    "ur": "نہیں نہ مت",
    "he": "לא אין אל בלי מעולם",
    "hi": "नहीं न ना मत बिना",
    "bn": "না নেই নয়",
    "vi": "không chưa chẳng đừng",
    "id": "tidak bukan jangan tanpa belum",
    "sw": "hapana sio bila",
    "ko": "안 못 아니 아니다 없다",
}
NEGATIONS = frozenset(word for words in _BY_LANGUAGE.values() for word in words.split())
LONGEST = max(map(len, NEGATIONS))
# Ends and beginnings that negate a longer word: n't with both apostrophes, French n', Korean stems, Persian.
_SUFFIXES = ("n't", "n’t")
_PREFIXES = ("n'", "n’", "نمی", "qu'aucun")
_KOREAN_STEMS = ("않", "없", "아니", "못하", "못했", "지마", "말라")
# Scripts without spaces: where in the text. 别 and 非 are left out in their common other words.
_UNSPACED = re.compile(
    r"不|没有?|沒有?|無|无|未|勿|莫|毋|否|(?<![特区區个個分差性级級类類辨鉴鑑])[别別](?![人的墅墅名])|非(?![常洲])"
    r"|ない|なかっ|なく|なけれ|ません|なし|ずに|ぬ|まい"
    r"|ไม่|มิ|อย่า|ไร้|ห้าม|ບໍ່|មិន|មិនមែន|ពុំ|不要|မ(?=[\u1000-\u1021])"
)
_HAS_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
STRIP = ".,;:!?\"'()[]{}«»“”„‘’*_…¿¡،؛؟।"


@lru_cache(maxsize=65_536)
def is_negation(word: str) -> bool:
    """Whether a space-separated word negates; case and the punctuation around it do not matter."""
    bare = word.strip(STRIP).lower()
    return (
        bare in NEGATIONS
        or bare.endswith(_SUFFIXES)
        or (bare.startswith(_PREFIXES) and len(bare) < 16)
        or ("\uac00" <= bare[:1] <= "\ud7a3" and any(stem in bare for stem in _KOREAN_STEMS))
    )


def unspaced_negations(text: str) -> Iterator[tuple[int, int]]:
    """Where Chinese, Japanese, Thai, Lao, Khmer and Burmese negations stand, as character spans."""
    if _HAS_UNSPACED.search(text):
        for found in _UNSPACED.finditer(text):
            yield found.span()
