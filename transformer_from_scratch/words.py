"""The words of the five topics, and the frames that the sentences are built from.

Names and frames belong to one part (training, validation, test), so that a model can neither
know a test sentence's names nor its shape. The words of a topic belong to all parts.
"""

NOUNS = {
    "Technology": (
        "laptop", "processor", "browser", "keyboard", "database", "server", "smartphone",
        "router", "compiler", "firewall", "password", "robot", "software update", "app",
        "chip", "battery", "website", "algorithm", "headset", "printer", "cloud service",
        "operating system", "touchscreen", "webcam", "drone", "programmer", "startup",
        "network cable", "memory card", "search engine", "chatbot", "gadget", "computer",
        "internet connection", "video game", "programming language"),
    "Sports": (
        "match", "goalkeeper", "tournament", "referee", "stadium", "striker", "marathon",
        "penalty", "coach", "league", "championship", "racket", "sprinter", "relay", "medal",
        "final whistle", "hat trick", "defender", "quarterback", "basketball", "tennis court",
        "swimmer", "cyclist", "goal", "team captain", "transfer", "playoff", "boxer",
        "world cup", "locker room", "training camp", "fan club", "football team", "player",
        "winning score", "tennis champion"),
    "Science": (
        "telescope", "molecule", "galaxy", "experiment", "hypothesis", "fossil", "neutron",
        "microscope", "planet", "virus", "laboratory", "gene", "asteroid", "particle",
        "equation", "enzyme", "supernova", "climate model", "glacier", "electron", "theory",
        "black hole", "cell", "protein", "volcano", "species", "chemist", "biologist",
        "space probe", "physicist", "vaccine", "fungus", "scientist", "atom", "star",
        "geologist"),
    "Music": (
        "guitar", "concert", "album", "drummer", "melody", "violin", "orchestra", "chorus",
        "piano", "singer", "symphony", "rhythm", "playlist", "trumpet", "band", "lyric",
        "opera", "saxophone", "bassist", "songwriter", "encore", "cello", "duet",
        "soundtrack", "choir", "jazz trio", "ballad", "microphone", "conductor", "chord",
        "record label", "tune", "song", "music festival", "guitarist", "pop singer"),
    "Food": (
        "recipe", "soup", "bakery", "cheese", "chef", "oven", "dessert", "noodle", "sauce",
        "salad", "pastry", "restaurant", "spice", "curry", "sandwich", "pizza", "omelette",
        "chocolate cake", "kitchen", "breakfast", "dumpling", "stew", "bagel", "menu",
        "pancake", "olive", "taco", "risotto", "waffle", "frying pan", "lemon tart",
        "vegetable", "meal", "cook", "fruit", "pot of stew"),
}
TRAITS = {
    "Technology": ("wireless", "encrypted", "digital", "buggy", "open-source", "portable",
                   "virtual", "hacked", "automated", "high-resolution"),
    "Sports": ("unbeaten", "offside", "athletic", "injured", "sold-out", "defensive",
               "olympic", "professional", "goalless", "fastest"),
    "Science": ("radioactive", "genetic", "microscopic", "interstellar", "prehistoric",
                "magnetic", "quantum", "chemical", "extinct", "peer-reviewed"),
    "Music": ("acoustic", "melodic", "loud", "out-of-tune", "orchestral", "vocal",
              "syncopated", "classical", "unplugged", "catchy"),
    "Food": ("delicious", "spicy", "roasted", "crispy", "salty", "vegan", "homemade",
             "sweet", "overcooked", "creamy"),
}
ACTS = {
    "Technology": ("installed", "debugged", "downloaded", "reprogrammed", "rebooted",
                   "upgraded", "hacked into", "coded"),
    "Sports": ("won", "refereed", "scored in", "trained for", "tackled", "defended",
               "kicked", "cheered for"),
    "Science": ("observed", "hypothesised about", "measured", "discovered", "simulated",
                "dissected", "published on", "experimented with"),
    "Music": ("sang about", "composed", "tuned", "rehearsed", "strummed", "recorded",
              "hummed", "improvised on"),
    "Food": ("cooked", "tasted", "baked", "seasoned", "grilled", "chopped", "ate",
             "served"),
}

PEOPLE = {
    "train": ("Amara", "Boris", "Chidi", "Daria", "Emil", "Farah", "Goran", "Hana", "Idris",
              "Jana", "Kofi", "Lena", "Marek", "Nadia", "Oskar", "Priya", "Rafael", "Selma",
              "Tariq", "Ursula", "Viktor", "Wanda", "Yusuf", "Zofia"),
    "validation": ("Aino", "Bruno", "Carla", "Dmitri", "Elif", "Felix", "Greta", "Hugo"),
    "test": ("Ingrid", "Jonas", "Keiko", "Luca", "Mira", "Nils", "Olga", "Pavel", "Rosa",
             "Stefan", "Tanja", "Umberto", "Vera", "Walid", "Xenia", "Yara"),
}
PLACES = {
    "train": ("Lisbon", "Nairobi", "Osaka", "Toronto", "Prague", "Lima", "Oslo", "Hanoi",
              "Cairo", "Boston", "Vienna", "Seoul"),
    "validation": ("Madrid", "Accra", "Quito", "Riga"),
    "test": ("Dublin", "Bogota", "Kyoto", "Tunis", "Zagreb", "Perth", "Malmo", "Delhi"),
}
FRAMES = {      # {noun} and {other} are nouns of the topic, {trait} and {act} its own too
    "train": (
        "{name} {act} the {trait} {noun} before the {other}.",
        "Yesterday {name} {act} a {noun} and talked about the {other}.",
        "Why is the {noun} so {trait}? {name} blames the {other}.",
        "{name} from {place} says that the {noun} was better than the {other}.",
        "After the {noun}, {name} {act} another {other}.",
        "Nobody expected a {trait} {noun}, but there it was, beside the {other}.",
        "In {place} the {noun} and the {other} are {trait} this year.",
        "The {other} needs a {trait} {noun}, as {name} wrote on Monday.",
        "Most people in {place} would choose the {noun} over the {other}.",
        "A {trait} {other} is worth more than any {noun}!",
        "{name} never {act} a {noun} without the {other}.",
        "Here is what {name} knows about the {noun} and the {trait} {other}.",
        "It took {name} a week to find the right {noun} for the {other}.",
        "They {act} the {noun}; then they left {place} with a {other}.",
        "Every {noun} in {place} has a {trait} {other}.",
        "\"My {noun} is {trait},\" said {name}, who had just {act} the {other}."),
    "validation": (
        "{name} showed us how one {act} a {noun} in {place} long ago.",
        "Is that {other} really as {trait} as the {noun}?",
        "With a {trait} {noun} like this, {name} can forget the {other}.",
        "What {name} said of the {noun} holds for the {other} too."),
    "test": (
        "People in {place} still remember how {name} {act} the {noun}.",
        "It was a {trait} {other} that made {name} think of the {noun}.",
        "Thanks to {name}, each {noun} now comes with its own {other}.",
        "Who {act} the {noun}? Perhaps {name}, perhaps somebody with a {other}.",
        "So {trait} was the {noun} that {place} forgot its {other}.",
        "Give {name} a {noun} or a {other} and the day is saved.",
        "Between the {noun} and the {other} there is little that {name} has not seen.",
        "Ask in {place} for a {trait} {noun} and bring your {other} along."),
}

# Sentences whose topic is that of the phrase named first. What stands for {a} and for {b} has
# the same two words before it and the same two after it, so that swapping both changes no
# sequence of three words: whoever counts only those cannot tell the topic.
PAIRS = (("Technology", "Science"), ("Sports", "Music"))
ORDERS = {
    "train": (
        "On Monday {name} wrote about the {a} at length, and since nobody in {place} was tired "
        "yet {name} wrote about the {b} at length.",
        "We spoke of the {a} all day; it rained outside, the streets were empty, and in the "
        "end we spoke of the {b} all day.",
        "{name} went to see the {a} with friends, slept for an hour or two, had tea with "
        "{name} and went to see the {b} with friends.",
        "The paper of {place} praises the {a} once more, and a few pages later the same paper "
        "praises the {b} once more.",
        "First people asked for the {a} in vain, then the shop was closed for some weeks, and "
        "now they asked for the {b} in vain.",
        "Some in {place} dream of the {a} at night while others, who are not at all like "
        "them, dream of the {b} at night.",
        "Look at the {a} for a minute, close both of your eyes, count slowly to ten, and look "
        "at the {b} for a minute.",
        "{name} took a picture of the {a} last week and forgot about it until somebody sent a "
        "picture of the {b} last week."),
    "validation": (
        "In {place} you hear of the {a} now and then, but rarely from the same person do you "
        "hear of the {b} now and then.",
        "There was talk about the {a} this time, and only when {name} came home was there "
        "talk about the {b} this time."),
    "test": (
        "At noon {name} thought of the {a} for long, and after walking through {place} in the "
        "rain thought of the {b} for long.",
        "Children drew pictures of the {a} on paper, and when all of them were done with that "
        "they made pictures of the {b} on paper.",
        "The guide of {place} points to the {a} without haste, walks on for some ten steps, "
        "and points to the {b} without haste.",
        "{name} got a letter about the {a} in spring, answered it in a single line, and got a "
        "letter about the {b} in spring."),
}
