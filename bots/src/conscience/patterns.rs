//! The crisis patterns, language by language, and the idioms and titles that are none.
//!
//! They are regular expressions over folded text: small letters without accents or apostrophes, words one space apart.
//! `~` stands for filling words of the language, `_` for up to three words of any kind, a name in capitals for a list below.
//! Whoever adds a pattern adds a sentence that it must find, and one that it must not, to the tests.

use super::Language;
use super::normalise::squeeze;

/// The alternation of all patterns of a language.
pub(super) fn of(language: Language) -> String {
    let (patterns, lists) = match language {
        Language::En => (EN, EN_LISTS),
        Language::De => (DE, DE_LISTS),
        Language::Fr => (FR, FR_LISTS),
        Language::Es => (ES, ES_LISTS),
        Language::Pt => (PT, PT_LISTS),
        Language::It => (IT, IT_LISTS),
        Language::Nl => (NL, NL_LISTS),
        Language::Pl => (PL, PL_LISTS),
    };
    expand(patterns, lists)
}

/// The alternation of all idioms.
pub(super) fn idioms() -> String {
    expand(IDIOMS, &[("~", "")])
}

fn expand(patterns: &[&str], lists: &[(&str, &str)]) -> String {
    let mut all = patterns.join("|");
    for (name, list) in lists {
        let value = if *name == "~" { format!("(?: (?:{list}))*") } else { format!("(?:{list})") };
        all = all.replace(name, &value);
    }
    squeeze(&all).replace('_', r"(?: \w+){0,3}")
}

/// The same pattern for a text whose words were run together.
pub(super) fn without_spaces(pattern: &str) -> String {
    pattern.replace(r"(?: \w+)", r"\w{0,6}").replace(" ?", "").replace(' ', "")
}

const IDIOMS: &[&str] = &[
    // English idioms, games, titles, and suicide as a topic
    r"(?:die|dying|dead) (?:laughing|of laughter|of embarrassment|of boredom|of old age|of shame|of cringe|of curiosity|from cuteness|on (?:this|that|the) hill)",
    r"die (?:in|at) (?:this|the|that|a) (?:game|level|raid|dungeon|match|boss|fight|round|first level|video game)",
    r"(?:way|ways) to die in (?:the |this |a )?(?:game|minecraft|dark souls|elden ring|skyrim|doom|zelda|fortnite|movies|horror movies)",
    r"(?:dont|do not|didnt|never|not) (?:really )?(?:want to|wanna|wanted to) die",
    r"i want to die but i want to eat tteok\w*",
    r"i hate myself and (?:i )?want to die (?:by|from|is a|of) nirvana",
    r"suicide (?:prevention|awareness|rates?|statistics|hotlines?|squad|research|risk|missions?|doors?|vests?|bomb\w*|watch|kings?|shop|girls|in (?:literature|japan|the))",
    r"(?:shoot|shooting|shot) myself in the foot",
    r"(?:drown|drowning|bury|burying) myself in",
    r"(?:kill|killing) myself (?:laughing|with laughter|at the gym|working|at work|over this)",
    r"(?:hurt|hurting|cut|cutting|burn|burning|injure|injuring) myself (?:lifting|shaving|cooking|while|at the gym|when i (?:cook|run|train|lift)|on (?:the|a) (?:paper|stove|knife)|in the gym|running|skiing|climbing|training|gardening)",
    r"(?:take|took|taking) my life (?:in|back|to|into|seriously|more seriously|as)",
    r"die my (?:hair|shirt|jeans|shoes|beard)",
    r"end my life insurance",
    r"without (?:hurting|cutting|burning|injuring) myself",
    // German
    r"(?:will|mochte|wollte) (?:noch )?nicht sterben",
    r"(?:vor|zum) (?:lachen|langeweile|scham) (?:sterben|tot)",
    // French
    r"(?:mourir|crever) de (?:rire|faim|soif|chaud|froid|honte|ennui|vieillesse|peur|sommeil)",
    r"en finir avec (?:ce|cet|cette|ces|le|les|mon|mes|un|une)",
    // Spanish, Portuguese, Italian
    r"no (?:me )?(?:quiero|quisiera|queria) (?:morir|morirme)",
    r"mor(?:ir|irme|rer|ire) (?:de|di|dal|dalla) (?:risa|risas|hambre|sed|verguenza|calor|frio|viejo|vieja|aburrimiento|amor|rir|fome|sede|vergonha|tedio|velhice|ridere|fame|noia|caldo|freddo|vergogna|sete|vecchiaia|curiosita|sono|sonno|suenno|sueno|risate)",
    r"nao (?:quero|queria) morrer",
    r"non (?:voglio|vorrei|volevo) morire",
    r"mi ammazzo di (?:lavoro|risate)",
    r"me (?:voy a matar|mato|matar) (?:trabajando|estudiando|trabalhando|estudando)",
    // Polish
    r"nie chce(?: jeszcze)? umrzec",
    r"umrzec ze? (?:smiechu|nudow|glodu|wstydu|starosci|ciekawosci)",
];

const EN_LISTS: &[(&str, &str)] = &[
    (
        "~",
        "just|really|so|badly|honestly|only|simply|truly|kind of|kinda|still|sometimes|often|always|actually|literally|also|now|seriously|fucking|secretly|constantly|desperately|even|be|been|again|today|tonight|soon|probably|finally|to|a|feel like i|think i|think that i|guess i",
    ),
    (
        "INTEND",
        "want to|wanted to|wanna|wish to|would like to|like to|need to|ready to|decided to|about to|urges? to|try to|tried to|trying to|plan to|planning to|planned to|intend to|going to|gonna|will|ill|ilbe|should|have to|must|feel like|feeling like|thinking of|thinking about|think about|think of|thought of|thought about|thoughts of|considering|keep|kept|cant stop|started|start|deserve to|how to|how do i|how can i|how should i|ways? to|help me|let me",
    ),
    (
        "WISH",
        "want to|wanted to|wanna|wish to|wish i could|would like to|hope to|hope i|need to|ready to|decided to|long to|deserve to|should|tempted to|would love to",
    ),
    ("IM", "i am|im|ive been|i have been|ive|i have|id|i would|ill|i will|i"),
    ("HARM", "hurt|hurting|harm|harming|cut|cutting|burn|burning|starve|starving|injure|injuring|punish"),
    (
        "KILL",
        "kill|killing|hang|hanging|shoot|shooting|drown|drowning|unalive|unaliving|strangle|asphyxiate|poison|poisoning|electrocute|murder",
    ),
];
const EN: &[&str] = &[
    r"KILL my ?self",
    r"(?:to|gonna) off my ?self",
    r"offing my ?self",
    r"INTEND~ HARM my ?self",
    r"i(?:ve)?~ cut(?:ting)? my ?self (?:to feel|again|every|because)",
    r"(?:cut|cutting|slit|slitting|slash|slashing|open) (?:open )?my (?:own )?(?:wrists?|veins?|throat|arms|thighs)",
    r"(?:IM~|INTEND|urge to|about) self ?harm(?:ing|ed)?",
    r"IM~ WISH~ (?:die|be dead|disappear forever|stop existing|not exist|not be alive|not wake up|never wake up|cease to exist|be gone forever)",
    r"^(?:just |really |please )?(?:want to|wanna) die",
    r"(?:make|makes|made|making) me (?:want to|wanna) die",
    r"hate my ?(?:self|life)_ (?:want to|wanna) die",
    r"how (?:do|can|could|should) i die",
    r"(?:please|just) let me die",
    r"i should be dead",
    r"id rather be dead",
    r"im better off dead",
    r"(?:end|ending) my (?:own )?(?:life|existence)",
    r"(?:take|taking|took) my own life",
    r"INTEND~ (?:take|taking) my life",
    r"IM~ INTEND~ (?:end|ending) it(?: all)?",
    r"(?:dont|do not|no longer|never) (?:want to|wanna) (?:be alive|go on living|keep living|exist|live (?:any ?more|any longer|like this|at all|with this pain))(?: any ?more)?",
    r"(?:dont|do not|no longer) (?:want to|wanna) live$",
    r"(?:dont|do not) (?:want to|wanna) be here any ?more",
    r"(?:dont|do not) (?:want to|wanna)~ wake up (?:any ?more|ever again|tomorrow)",
    r"i cant go on (?:any ?more|any longer|living|like this)",
    r"(?:wish|hope) (?:that )?i~ (?:dont|wont|wouldnt|would not|never|would never|could never|would just not) wake up",
    r"go to sleep and (?:never|not) wake up",
    r"wish (?:that )?i~ (?:was|were) (?:dead|never born|not alive|gone forever)",
    r"wish i (?:had )?(?:never (?:been )?born|was never born|were never born)",
    r"i(?: would|d| am|m)?~ better off dead",
    r"better off without me",
    r"(?:world|place) (?:would|is|will)_ better (?:place )?without me",
    r"better (?:off )?if i (?:was|were) (?:dead|gone)",
    r"better (?:off )?if i (?:died|disappeared|wasnt (?:here|alive|around))",
    r"i (?:have|see|can see|find|dont have|dont see|cant find|cant see|got) (?:no|any|a) (?:reason|point|purpose)(?: left)? (?:to|in|for)(?: keep| go on)? (?:live|living|going on|being alive|stay(?:ing)? alive)",
    r"nothing(?: left)? to live for",
    r"(?:theres|there is|see|sees) no (?:reason|point)(?: left)? (?:to|in|for)(?: keep| go on)? (?:living|going on|being alive|stay(?:ing)? alive)",
    r"my life (?:is not|isnt|is no longer)~ worth living",
    r"life (?:is not|isnt)~ worth living any ?more",
    r"IM~ (?:commit|committing|attempt|attempting|INTEND) suicide",
    r"IM~ INTEND~ (?:commit|committing|attempt|attempting)? ?suicide",
    r"IM~ (?:contemplating|considering|thinking (?:about|of)|fantasizing about) (?:my )?suicide",
    r"INTEND commit(?:ting)? suicide",
    r"my (?:own )?suicide(?: (?:note|plan|letter|attempt|date))",
    r"write (?:me )?a suicide (?:note|letter)",
    r"i(?:m| am| feel|ve been| have been| was| keep feeling| get)~ suicidal",
    r"(?:i have|ive|ive had|i had|having|i keep having|i get)~ (?:some |many |these |strong |constant |lots of |a lot of )?suicidal (?:thoughts|ideation|urges|feelings)",
    r"my suicidal (?:thoughts|ideation|urges|feelings)",
    r"(?:painless|easiest|quickest|fastest|least painful|most painless|best|peaceful) (?:way|ways|method|methods) (?:to|of|for) (?:die|dying|suicide|commit suicide|committing suicide|end it all)",
    r"how many_ (?:pills|tablets|paracetamol|tylenol|ibuprofen|xanax|mg|grams)(?: \w+){0,6} to (?:die|overdose|end)",
    r"IM~ INTEND~ overdos(?:e|ing)",
    r"IM~ INTEND~ (?:jump|jumping|throw my ?self|throwing my ?self) (?:off|of|from|in front of|under)_ (?:bridge|roof|building|train|cliff|balcony|traffic|tracks)",
    r"(?:nobody|no one|noone)(?: would| will|d)?~ (?:miss me if i|care if i (?:die|died|was dead|were dead|disappeared|was gone|were gone))",
    r"would anyone (?:miss me|care|notice) if i (?:die|died|was gone|were gone|disappeared|was dead|were dead)",
    r"by the time you (?:read|see) this i(?:ll| will) be (?:dead|gone)",
    r"i have nothing(?: left)? to live for",
    r"i feel like dying",
    r"i want someone to kill me",
    r"i wish (?:someone|somebody) would kill me",
    r"(?:gonna|INTEND) kms",
    r"help me (?:to )?die",
];

const DE_LISTS: &[(&str, &str)] = &[
    (
        "~",
        "einfach|nur|echt|wirklich|so|gern|gerne|jetzt|manchmal|auch|endlich|am liebsten|doch|oft|immer|heute|bald|mal|halt|schon|lieber|besser|standig|noch|wieder|selbst|selber|am besten",
    ),
    ("WOLLEN", "will|mochte|moechte|wollte|wurde|wuerde|werde|kann|konnte|muss|sollte|soll"),
    (
        "TOT",
        "umbringen|umzubringen|toten|toeten|zu toten|erhangen|erhaengen|aufhangen|aufzuhangen|erschiessen|vergiften|ertranken|ritzen|schneiden|verletzen|vor den zug werfen|vor einen zug werfen|vom dach sturzen|zu verletzen|zu ritzen",
    ),
];
const DE: &[&str] = &[
    r"ich~ WOLLEN(?: \w+)? mich~ TOT",
    r"WOLLEN ich mich~ TOT",
    r"mich~ (?:umzubringen|zu toten|zu toeten|zu erhangen|aufzuhangen|zu erschiessen)",
    r"mich selbst (?:verletzen|umbringen|toten|toeten)",
    r"ich bringe? mich~ um",
    r"mich~ umbringen (?:will|mochte|werde|soll|kann)",
    r"ich~ WOLLEN~ (?:sterben|tot sein|nicht mehr leben|nicht mehr da sein|nicht mehr sein|nicht mehr aufwachen|nicht mehr existieren|nie wieder aufwachen)",
    r"WOLLEN ich~ (?:sterben|tot sein|nicht mehr leben)",
    r"ich~ (?:will|mag|kann|mochte|moechte) nicht mehr (?:weiter ?)?leben",
    r"ich habe?~ keinen? (?:lebenswillen|grund mehr zu leben|grund zu leben)",
    r"ich sehe~ keinen (?:grund|sinn)(?: mehr)? (?:zu|zum) leben",
    r"mir~ (?:das leben (?:zu )?nehmen|etwas antun|was antun|die pulsadern (?:auf ?schneiden|aufzuschneiden)|die kugel geben)",
    r"mein(?:em)? leben (?:ein ende|beenden|zu beenden)",
    r"ich habe?~ (?:suizidgedanken|selbstmordgedanken|suizidale? gedanken)",
    r"ich (?:bin|fuhle mich)~ (?:suizidal|suizidgefahrdet|selbstmordgefahrdet)",
    r"ich (?:denke?|dachte|habe)~ (?:an|uber|daran) (?:selbstmord|suizid)",
    r"ich (?:begehe|werde|will|mochte|plane)~ (?:selbstmord|suizid)",
    r"mein(?:en)? (?:suizid|selbstmord)\b",
    r"schreibe?_ (?:meinen|einen) abschiedsbrief",
    r"ich (?:ware|waere)~ (?:tot|nie geboren)",
    r"(?:ware|waere) ich~ (?:tot|nie geboren)",
    r"ohne mich_ besser",
    r"besser~ ohne mich",
    r"ich ritze mich",
    r"ich verletze mich selbst",
    r"ich schneide mich~ (?:um|damit|in die arme)",
    r"ich (?:springe?|werfe mich|will)_ (?:von der brucke|vom dach|vor den zug|vor einen zug|aus dem fenster)",
    r"(?:schmerzlos|schmerzfrei)(?:este?n?)?~ (?:sterben|zu sterben|umbringen)",
    r"das leben (?:hat|macht)_ keinen sinn mehr",
];

const FR_LISTS: &[(&str, &str)] = &[
    (
        "~",
        "vraiment|juste|plus|trop|tellement|parfois|souvent|seulement|simplement|encore|bien|toujours|que|tout|jamais|maintenant|si|tres",
    ),
    ("VOULOIR", "veux|voudrais|vais|pense a|pense|souhaite|voulais|compte|aimerais|dois|prefere|envisage de|songe a"),
    (
        "FIN",
        "me suicider|me tuer|me pendre|me noyer|en finir|me faire du mal|mettre fin a (?:mes jours|ma vie)|mouvrir les veines|me couper les veines|moter la vie|disparaitre pour toujours|ne plus vivre|ne plus exister|ne plus me reveiller|me mutiler|me scarifier",
    ),
];
const FR: &[&str] = &[
    r"(?:je|j)~ ?VOULOIR~ FIN",
    r"je (?:veux|voudrais|souhaite|voulais|prefere)~ (?:mourir|crever|etre morte?)",
    r"jaimerais~ (?:mourir|FIN|etre morte?)",
    r"j ?ai~ (?:envie|besoin) de~ (?:mourir|crever|FIN|disparaitre)",
    r"me suicider",
    r"en finir avec (?:la vie|ma vie)",
    r"je (?:ne )?veux plus (?:vivre|etre la|exister|me reveiller)",
    r"narrive plus a vivre",
    r"(?:nai|jai)~ (?:plus )?(?:envie de vivre|le gout de vivre|de raison de vivre|aucune raison de vivre)",
    r"aucune raison de vivre",
    r"j ?ai_ (?:pensees|idees) suicidaires",
    r"je suis~ suicidaire",
    r"je pense~ au suicide",
    r"mon (?:suicide|envie de mourir)\b",
    r"comment~ (?:me suicider|me tuer|mourir sans (?:souffrir|douleur)|mourir rapidement)",
    r"jaurais_ (?:ne jamais naitre|ne jamais etre nee?|jamais etre nee?)",
    r"(?:serait|irait|sera|vivrait|seraient|iraient|vivraient) mieux sans moi",
    r"je me (?:scarifie|mutile|coupe les veines|fais du mal|tue ce soir)",
    r"ma lettre dadieu",
    r"me jeter (?:sous|du|dun|dans|par)_ (?:train|pont|toit|fenetre|metro|vide)",
    r"mettre fin a (?:mes jours|ma vie|ma propre vie)",
    r"ma vie ne vaut~ (?:la peine|le coup|rien)",
];

const ES_LISTS: &[(&str, &str)] = &[
    (
        "~",
        "solo|realmente|ya|de verdad|tanto|a veces|siempre|mas|muchas|muchos|simplemente|tambien|ahora|hoy|nunca|en|el|que|mucho",
    ),
    (
        "QUERER",
        "quiero|quisiera|deseo|voy a|pienso|me gustaria|necesito|tengo ganas de|ganas de|pensando en|pienso en|intente|trate de|he intentado|pensado en|planeo",
    ),
    (
        "FIN",
        "suicidarme|matarme|ahorcarme|quitarme la vida|acabar con mi vida|acabar con todo|terminar con mi vida|terminar con todo|cortarme|cortarme las venas|hacerme dano|colgarme|desaparecer para siempre|dejar de vivir|dejar de existir|estar muert[oa]|morirme",
    ),
];
const ES: &[&str] = &[
    r"QUERER~ FIN",
    r"(?:quiero|quisiera|deseo|me gustaria|ganas de)~ morir",
    r"me (?:quiero|voy a|queria)~ (?:morir|matar|suicidar|ahorcar|colgar|quitar la vida|cortar las venas)",
    r"me quiero quitar la vida",
    r"suicidarme",
    r"no quiero~ (?:seguir viviendo|seguir con vida|existir|vivir mas|vivir asi|estar viv[oa]|despertar mas|despertarme mas)",
    r"ya no quiero~ (?:vivir|estar aqui|despertar|existir)",
    r"no quiero vivir$",
    r"(?:tengo|tuve|me vienen)~ (?:pensamientos|ideas) (?:suicidas|de suicidio)",
    r"(?:soy|estoy|me siento)~ suicida",
    r"pienso~ suicidio",
    r"como~ (?:puedo )?(?:matarme|morir sin dolor|quitarme la vida)",
    r"ojala (?:estuviera|estuviese) muert[oa]",
    r"ojala (?:no|nunca) hubiera nacido",
    r"(?:estarian|estaria|estan|estara|estaran)~ mejor sin mi",
    r"no tengo~ (?:motivos?|razones|razon|ganas) (?:para|de) (?:seguir )?vivir(?:endo)?",
    r"mi carta de (?:suicidio|despedida)",
    r"mi suicidio",
    r"me corto (?:los brazos|las munecas|las venas|para sentir)",
    r"me autolesiono",
    r"mi vida~ no~ (?:vale|tiene)~ (?:la pena|sentido)",
    r"tirarme (?:de|del|por|desde|al)_ (?:puente|balcon|tren|ventana|edificio|metro|azotea)",
];

const PT_LISTS: &[(&str, &str)] = &[
    (
        "~",
        "so|realmente|ja|tanto|as vezes|sempre|mais|muito|muitos|simplesmente|tambem|agora|hoje|nunca|em|o|que|apenas|mesmo|eu",
    ),
    ("QUERER", "quero|queria|gostaria de|penso em|pensando em|desejo|preciso|tentei|vontade de|pensei em|planejo|vou"),
    (
        "FIN",
        "me matar|me suicidar|me enforcar|tirar (?:a )?minha (?:propria )?vida|acabar com (?:a )?minha vida|acabar com tudo|me cortar|me machucar|estar mort[oa]|sumir para sempre|cometer suicidio|matar me|suicidar me|deixar de existir|por fim a minha vida",
    ),
];
const PT: &[&str] = &[
    r"QUERER~ FIN",
    r"(?:quero|queria|gostaria de|vontade de|desejo)~ morrer",
    r"eu vou me (?:matar|suicidar|enforcar)",
    r"nao quero mais (?:viver|existir|estar aqui|acordar)",
    r"nao quero~ viver(?: mais| assim|$)",
    r"nao (?:aguento|consigo) mais viver",
    r"(?:tenho|tive)~ (?:pensamentos|ideias) (?:suicidas|de suicidio)",
    r"(?:sou|estou|me sinto)~ suicida",
    r"penso~ suicidio",
    r"(?:estariam|estaria|ficariam|ficaria|estao)~ melhor(?:es)? sem mim",
    r"nao tenho~ (?:razao|motivos?|razoes|vontade) (?:para|de|pra) viver",
    r"minha carta de (?:suicidio|despedida)",
    r"meu suicidio",
    r"queria nunca ter nascido",
    r"como~ (?:posso )?(?:me matar|me suicidar|morrer sem dor)",
    r"me jogar (?:da|de|do|na frente|debaixo)_ (?:ponte|predio|trem|janela|metro|onibus)",
    r"eu me corto",
    r"minha vida nao~ (?:vale|tem)~ (?:a pena|sentido)",
];

const IT_LISTS: &[(&str, &str)] = &[
    (
        "~",
        "solo|davvero|proprio|gia|tanto|a volte|spesso|sempre|piu|molti|semplicemente|anche|ora|adesso|oggi|mai|che|soltanto|spesso",
    ),
    (
        "VOLERE",
        "voglio|vorrei|sto pensando di|penso di|ho voglia di|ho deciso di|volevo|desidero|ho bisogno di|ho provato a|sto per|pensato di|intendo|penso a",
    ),
    (
        "FINE",
        "uccidermi|ammazzarmi|suicidarmi|togliermi la vita|impiccarmi|farla finita|farmi del male|tagliarmi|tagliarmi le vene|essere mort[oa]|sparire per sempre|smettere di vivere|smettere di esistere",
    ),
];
const IT: &[&str] = &[
    r"VOLERE~ FINE",
    r"(?:voglio|vorrei|ho voglia di|desidero|volevo)~ morire",
    r"suicidarmi",
    r"mi voglio (?:ammazzare|uccidere|suicidare)",
    r"non voglio piu (?:vivere|esistere|esserci|svegliarmi|stare al mondo)",
    r"non voglio vivere$",
    r"mi (?:ammazzo|uccido|suicido|taglio le vene)",
    r"ho~ pensieri (?:suicidi|di suicidio|suicidari)",
    r"penso~ al suicidio",
    r"mi sento~ suicida",
    r"(?:starebbero|starebbe|sarebbe|stanno|staranno)_ meglio senza di me",
    r"non ho~ (?:motivo|motivi|ragione|ragioni|voglia) (?:di|per) vivere",
    r"la mia lettera d(?:i )?(?:suicidio|addio)",
    r"il mio suicidio",
    r"come~ (?:posso )?(?:uccidermi|ammazzarmi|morire senza (?:soffrire|dolore))",
    r"vorrei non essere mai nat[oa]",
    r"buttarmi (?:dal|da|sotto|dalla|giu)_ (?:ponte|treno|finestra|palazzo|balcone|tetto|metro)",
    r"mi faccio del male",
    r"la mia vita non ha~ senso",
];

const NL_LISTS: &[(&str, &str)] = &[
    (
        "~",
        "echt|gewoon|alleen|nu|soms|maar|heel|graag|eigenlijk|liever|ook|vaak|vandaag|toch|zo|wel|steeds|er|altijd|eraan om",
    ),
    ("MIJ", "mezelf|mijzelf|me|mij"),
];
const NL: &[&str] = &[
    r"ik_ MIJ~ (?:van kant (?:te )?maken|ombrengen|om te brengen|vermoorden|te vermoorden|doden|te doden|ophangen|op te hangen|verdrinken|pijn (?:te )?doen|snijden|te snijden|iets aan(?: te )?doen|van het leven (?:te )?beroven)",
    r"mezelf (?:doden|ombrengen|van kant maken|vermoorden|snijden|pijn doen)",
    r"ik (?:wil|wilde|zou willen|wou|ga)~ (?:dood|sterven|doodgaan|dood zijn|niet meer leven|niet meer verder leven|niet meer zijn|niet meer wakker worden|een eind(?:e)? aan maken|een eind(?:e)? aan mijn leven maken|zelfmoord plegen|uit het leven stappen)",
    r"aan mijn leven~ (?:een eind|maken|te maken)",
    r"eind(?:e)?~ (?:te )?(?:maken )?aan mijn leven",
    r"ik (?:pleeg|denk~ aan|heb gedacht aan|overweeg|denk~ over)~ zelfmoord(?: plegen| te plegen)?",
    r"ik heb~ (?:zelfmoordgedachten|suicidale gedachten|zelfmoordneigingen)",
    r"ik (?:ben|voel me)~ suicidaal",
    r"beter (?:af )?zonder mij",
    r"ik heb~ geen (?:reden|zin)(?: meer)? om(?: nog| verder)* te leven",
    r"geen zin meer in het leven",
    r"was ik maar~ (?:dood|nooit geboren)",
    r"ik was liever~ dood",
    r"mijn (?:afscheidsbrief|zelfmoord|zelfmoordbrief)\b",
    r"ik snijd? (?:mezelf|me) (?:weer|om)",
    r"ik (?:spring|ga|wil)_ (?:van de brug|van het dak|voor de trein|voor een trein|van de flat)(?: springen)?",
    r"pijnloos (?:sterven|doodgaan)",
    r"ik wil niet meer leven",
];

const PL_LISTS: &[(&str, &str)] = &[
    (
        "~",
        "juz|naprawde|tylko|po prostu|tak|czasami|czasem|czesto|zawsze|bardzo|teraz|dzis|dzisiaj|tez|wciaz|zeby|sobie|ciagle",
    ),
    (
        "CHCIEC",
        "chce|chcialbym|chcialabym|mam ochote|zamierzam|planuje|mysle zeby|mysle o tym zeby|probowalem|probowalam|pragne|wolalbym|wolalabym|musze|mam zamiar",
    ),
    (
        "KONIEC",
        "sie zabic|zabic sie|popelnic samobojstwo|odebrac sobie zycie|sie powiesic|powiesic sie|skonczyc ze soba|zrobic sobie krzywde|sie pociac|pociac sie|nie zyc|zniknac na zawsze|skonczyc z zyciem|byc martw[ya]|skoczyc z mostu|skoczyc z dachu|rzucic sie pod pociag",
    ),
];
const PL: &[&str] = &[
    r"CHCIEC~ KONIEC",
    r"(?:chce|chcialbym|chcialabym|pragne|wolalbym|wolalabym|mam ochote)~ umrzec",
    r"nie chce (?:mi sie )?(?:juz|dluzej|wiecej) (?:zyc|istniec|sie obudzic)",
    r"nie chce mi sie~ zyc",
    r"nie chce zyc$",
    r"zabije sie",
    r"sie zabije",
    r"powiesze sie",
    r"mam~ mysli samobojcze",
    r"mysle~ o samobojstwie",
    r"(?:jestem|czuje sie)~ samobojc(?:a|zo)",
    r"lepiej_ beze mnie",
    r"beze mnie_ lepiej",
    r"nie mam~ (?:po co zyc|powodu zeby zyc|powodu by zyc|powodu do zycia|sily zyc|checi do zycia)",
    r"tne sie",
    r"okaleczam sie",
    r"moj list pozegnalny",
    r"moje samobojstwo",
    r"jak~ (?:popelnic samobojstwo|umrzec bezbolesnie|sie zabic)",
    r"chce~ ze soba skonczyc",
    r"targnac sie na~ (?:swoje )?zycie",
    r"odebrac sobie zycie",
];
