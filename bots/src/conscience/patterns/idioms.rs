//! Idioms, games, titles, suicide as a topic, and others of whom is told: taken out before the patterns look.

pub(super) const LATIN_LISTS: &[(&str, &str)] = &[];
pub(super) const LATIN: &[&str] = &[
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
    // What is not meant of life and death
    r"end it (?:with (?:my|him|her|them)|by|here for today)",
    r"myself hosted",
    r"tired of living (?:in|with|at|out of|on|paycheck|under|far|next)",
    r"(?:dont|do not) want to live (?:in|with|at|near|on|under|off|next|far|alone|by|together|there|through)",
    r"(?:kill|killing) myself (?:with my own (?:grenade|rocket|bomb|sword)|in (?:game|minecraft|the game|worms|fortnite))",
    r"(?:hurt|cut|burn|burned|burnt) myself again (?:while )?(?:shaving|cooking|running|climbing|on)",
    r"(?:character|hero|heroine|protagonist|villain) (?:who )?wants to die",
    // Polish and Turkish: told of others, in words that would do for oneself
    r"(?:mowi|powiedzial|powiedziala|twierdzi|pisze|napisal|napisala|wyznal|wyznala)(?: mi)? ze (?:juz )?(?:nie )?(?:chce|ma mysli)(?: juz)?(?: sie)?(?: \w+){1,2}",
    r"(?:ona|on|ktory|ktora|corka|syn|brat|siostra|przyjaciel|przyjaciolka|kolega|kolezanka|mama|tata|ktos)(?: juz)? (?:nie )?chce(?: juz)?(?: sie)? (?:zabic|umrzec|zyc)",
    r"my life ?(?:cycle|style|time|span|insurance|hack|story|goals)",
    r"killed myself (?:laughing|with laughter|at the gym|working|with my own|in (?:game|minecraft|the game|worms|fortnite))",
    r"(?:laptop|computer|pc|mac|phone|tablet|screen|device|server|monitor|it|baby|toddler|dog|cat|kid|child|son|daughter|console|pi)(?: to)? (?:go|goes|going|fall|falls) (?:to sleep|a ?sleep)(?: and)? (?:not|never|doesnt|wont) wake up",
    r"(?:user|users|caller|callers|client|clients|member|students?|patients?|teen|teenager|teenagers|visitor|customer|pupil|someone|somebody) (?:who )?(?:posts?|says?|writes?|types?|tells (?:me|us)|said|wrote|posted|texts?|texted|messages?)(?: that| things like| something like)?(?: i (?:really |just )?(?:want to|wanna|am going to|dont want to) (?:die|kil myself|end it all|live|be here|end my life|hurt myself)(?: any ?more)?| im suicidal| i am suicidal)",
    r"suicide is painless",
    r"nicht mehr leben wie (?:ein|eine|in|zu)",
    r"mi taglio (?:i capelli|le unghie|la barba|la frangia)",
    r"einde? aan (?:maken )?(?:aan )?(?:dit|deze|het|de|mijn) (?:abonnement|gesprek|discussie|contract|project|ruzie|relatie|vergadering|oorlog)",
];

pub(super) const NATIVE_LISTS: &[(&str, &str)] = &[];
pub(super) const NATIVE: &[&str] = &[
    // Russian, Ukrainian
    r"(?:умереть|сдохнуть|умирать|умру|умираю|сдохну|убиться|помереть) (?:со|от|с) (?:смеху|смеха|голоду|голода|скуки|стыда|жары|холода|любопытства|старости|зависти|усталости)",
    r"(?:умереть|умирать|сдохнуть) как хочется",
    r"не (?:хочу|хочется|хотел|хотела)(?: бы)? (?:умирать|умереть|сдохнуть)",
    r"(?:вмерти|померти|вмираю|помираю|помру|вмру|помирати|вмирати) (?:зі|від|з|од) (?:сміху|голоду|нудьги|сорому|спеки|холоду|цікавості|старості|втоми)",
    r"не (?:хочу|хочеться|хотів би|хотіла б) (?:вмирати|помирати|померти|вмерти)",
    // Arabic
    r"(?:اموت|بموت|هموت|حموت|الموت|موت|مت) (?:من |ضحك|في )(?:الضحك|الجوع|الحر|البرد|العطش|الملل|الخجل|التعب|الفرح|ضحك|جوع|الشوق|حبك|هواك)?",
    r"لا اريد ان اموت|ما ابي اموت|مش عايز اموت",
    // Hindi
    r"(?:भूख|हंसते|हंसी|प्यास|गर्मी|ठंड|शर्म|बोरियत|हंस)_ (?:मर|मरा|मरने|मरना)_",
    r"मरना नहीं (?:चाहता|चाहती|है)",
    r"कि (?:वह|वो|उसे|उसको|उसका)(?: [^ ]+){0,5} (?:चाहता|चाहती|है|रहा|रही)",
];

pub(super) const DENSE_LISTS: &[(&str, &str)] = &[(
    "某人",
    "友達|友人|彼女|彼氏|彼|息子|娘|母|父|妹|弟|兄|姉|夫|妻|同僚|生徒|先輩|後輩|知り合い|子供|子ども|親友|部下|患者|主人公|キャラ|登場人物|祖母|祖父|クラスメート|家族|他|她|朋友|同学|妈妈|爸爸|儿子|女儿|孩子|室友|同事|弟弟|妹妹|哥哥|姐姐|老公|老婆|有人|别人|学生|闺蜜|男友|女友|同桌|表弟|表妹|主角|人物|主人公",
)];
pub(super) const DENSE: &[&str] = &[
    // Japanese
    r"死にたくな(?:い|かった|ければ)",
    r"死ぬ(?:ほど|かと思|まで(?:に|一度|愛|働))",
    r"(?:笑い|笑って|恥ずかしくて|暑くて|お腹が空いて|腹減って|眠くて|暇で)_死(?:ぬ|に(?:そう|たい)|んだ)",
    r"某人(?:が|は|から|に|の)_(?:死にたい|消えたい|自殺したい|自殺しよう|生きていたくない|リストカット|リスカ|自傷|遺書|自殺を考え)_(?:と|って|を|し|し)?_(?:言|いっ|話|打ち明|つぶや|口に|繰|い)?",
    r"(?:死にたい|消えたい|自殺したい|自殺を考えている|自傷する|自殺する)(?:と(?:言う|思う|悩む|訴える|いう))?(?:人|友|生徒|患者|子|若者|方|学生|利用者|相談者)",
    r"自殺(?:予防|防止|対策|率|者|統計|問題|総合)",
    // Chinese
    r"想死(?:你|您|他|她|它|妈|爸|宝|亡|机|锁|板|去活来|我了)",
    r"(?:笑|累|饿|困|热|冷|烦|急|气|吓|美|羡慕|尴尬|无聊|忙|痒|馋|萌|爱|帅|渴|酸|辣|疼)死(?:我|人|了|个人|宝宝|老子)",
    r"不想死",
    r"某人(?:们)?_(?:说|告诉我|跟我说|对我说)?_(?:想死|不想活|想自杀|要自杀|自杀|活不下去|自残|割腕|伤害自己|不想再活|轻生|自杀念头|结束自己的生命|结束生命)",
    r"(?:想自杀|想死|自杀|自残|轻生)的(?:人|朋友|学生|来电|孩子|患者|同学|青少年|求助者)",
    r"自杀(?:率|预防|干预|热线|防治|问题|式|现象|统计)",
    r"(?:预防|防止|干预|研究|关于|讨论)自杀",
];
