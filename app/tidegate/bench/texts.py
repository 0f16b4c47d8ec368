"""Texts like those of a shop's catalogue, made from a vocabulary: as many as wanted, the same ones for a seed."""

import random
from dataclasses import dataclass

_GOODS = (
    ("hiking boots", "the ankle support", "the outer sole"), ("rain jacket", "the hood", "the taped seams"),
    ("sleeping bag", "the two-way zip", "the draught collar"), ("camping stove", "the burner", "the wind guard"),
    ("head torch", "the beam", "the battery compartment"), ("trekking poles", "the cork grips", "the locking lever"),
    ("espresso machine", "the steam wand", "the water tank"), ("cast-iron pan", "the handle", "the seasoned surface"),
    ("chef's knife", "the blade", "the full-tang handle"), ("bread bin", "the lid", "the ventilation slots"),
    ("desk lamp", "the arm", "the dimmer"), ("office chair", "the lumbar support", "the gas spring"),
    ("standing desk", "the motor", "the cable tray"), ("mechanical keyboard", "the switches", "the key caps"),
    ("wireless headphones", "the ear cushions", "the noise cancelling"), ("bicycle lock", "the shackle", "the bracket"),
    ("city bike", "the hub gear", "the front carrier"), ("pannier bag", "the roll closure", "the mounting hooks"),
    ("toddler raincoat", "the reflective piping", "the press studs"), ("wooden railway", "the track", "the bridge"),
    ("picture book", "the illustrations", "the cardboard pages"), ("cordless drill", "the chuck", "the clutch"),
    ("garden hose", "the coupling", "the reel"), ("pruning shears", "the spring", "the safety catch"),
    ("cat tree", "the sisal post", "the lying surface"), ("dog harness", "the chest strap", "the buckle"),
    ("yoga mat", "the surface", "the carrying strap"), ("rowing machine", "the water resistance", "the seat rail"),
    ("bed linen", "the zip", "the weave"), ("wool blanket", "the fringe", "the knit"),
)  # fmt: skip
MAKERS = (
    "Nordfell", "Alvera", "Kestrel", "Brightwater", "Tamsin & Co.", "Holm", "Grindel", "Pinewood", "Marlowe", "Ostra",
    "Quill", "Sundby", "Verdant", "Wexford", "Lumen", "Cardigan Bay",
)  # fmt: skip
_MATERIALS = (
    "recycled polyester", "full-grain leather", "anodised aluminium", "organic cotton", "oiled oak", "stainless steel",
    "merino wool", "powder-coated steel", "natural rubber", "borosilicate glass", "birch plywood", "waxed canvas",
    "silicone", "bamboo fibre",
)  # fmt: skip
_COLOURS = (
    "moss green",
    "slate grey",
    "off-white",
    "navy",
    "rust red",
    "black",
    "sand",
    "petrol blue",
    "mustard",
    "burgundy",
)
_USES = (
    "long days in the mountains", "small kitchens", "the daily way to work", "children who cannot sit still",
    "weekends away with little luggage", "people with back pain", "rented flats", "wet and windy coasts",
    "beginners who want to do it properly", "shared offices", "allotments and balconies", "restaurants and canteens",
    "winter nights below freezing", "left-handed users",
)  # fmt: skip
_SENTENCES = (
    "Made for {use}.",
    "Made of {material}, in {colour}.",
    "{Part} holds up where cheaper ones give way after a season.",
    "Weighs {number} g and comes with a {years}-year guarantee.",
    "We changed {part} after {number} customers wrote to us about it.",
    "Not suitable for the dishwasher; wipe it with a damp cloth and let it dry.",
    "Replacement parts, including {part}, can be ordered for at least {years} years.",
    "Ships within {days} working days; returns are free for {number} days.",
    "If you are between two sizes, take the larger one: {material} hardly gives.",
    "Customers who bought it for {use} rate it {stars} out of 5.",
    "Packed without plastic and made in batches of {number} in {town}.",
    "{Part} was tested {number} times under load before it went into production.",
)
_TOWNS = ("Leipzig", "Porto", "Gdańsk", "Lyon", "Malmö", "Brno", "Bologna", "Ghent", "Sheffield", "Cork")


@dataclass(frozen=True, slots=True)
class Text:
    """A product's two texts; together they are its document."""

    name: str
    description: str

    @property
    def document(self) -> str:
        """As index/document.py puts columns together."""
        return f"{self.name}\n\n{self.description}"


class Texts:
    """Makes texts; those of one seed are always the same, in the same order, and all differ.

    Args:
        sentences: fewest and most of a description; a sentence has about a dozen tokens.
    """

    def __init__(self, seed: int, sentences: tuple[int, int]):
        self._random = random.Random(seed)
        self._sentences = sentences
        self._made = 0

    def next(self) -> Text:
        """One more text."""
        choice = self._random.choice
        goods, *parts = choice(_GOODS)
        self._made += 1
        article = f"{choice('ABCDEFGHKLMNPRSTVWX')}{choice('ABCDEFGHKLMNPRSTVWX')}-{self._made:05d}"
        count = self._random.randint(*self._sentences)
        filled = [self._fill(sentence, parts) for sentence in self._random.sample(_SENTENCES, count)]
        return Text(f"{choice(MAKERS)} {goods}, {choice(_COLOURS)}, {article}", " ".join(filled))

    def _fill(self, sentence: str, parts: list[str]) -> str:
        choice = self._random.choice
        part = choice(parts)
        return sentence.format(
            use=choice(_USES),
            material=choice(_MATERIALS),
            colour=choice(_COLOURS),
            part=part,
            Part=part[0].upper() + part[1:],
            number=self._random.randint(14, 980),
            years=self._random.randint(2, 15),
            days=self._random.randint(1, 5),
            stars=round(self._random.uniform(3.4, 4.9), 1),
            town=choice(_TOWNS),
        )
