"""The words of the phrasebook: tables to read, and to add to.

In a table a line is a row and '|' parts its cells. Stems are dictionary forms without their 다.
"""

from typing import NamedTuple


class Noun(NamedTuple):
    """A thing, or a person as an object. `kind` tells what English puts before it.

    'count': a, the or a plural; 'mass' and 'plural' (pants): nothing or the; 'fixed': the English is
    complete. `counter` is what Korean counts it in, '' where the book does not count it, and
    `measure` is the English one that a mass needs.
    """

    korean: str
    english: str
    kind: str
    counter: str = ''
    measure: str = ''


class Subject(NamedTuple):
    """Who acts or is described. `number`, for the English verb, is 'I', 'you', 'one' or 'many'.

    Kin are named without an owner: 'my' in a statement, 'your' in a question. `owner` is the
    possessive of a pronoun.
    """

    korean: str
    english: str
    number: str = 'one'
    honorific: bool = False
    kin: bool = False
    owner: str = ''


def rows(table: str) -> list[list[str]]:
    """Rows of cells; an indented line goes on with the row before it."""
    lines = table.strip().replace('\n ', '').splitlines()
    return [[cell.strip() for cell in line.split('|')] for line in lines]


def words(cell: str) -> tuple[str, ...]:
    return tuple(w for word in cell.split() for w in (PERSONS if word == '사람' else (word,)))


def pairs(table: str) -> list[tuple[str, str]]:
    """Korean and English of entries such as '책 book, 연필 pencil'."""
    return [tuple(entry.split(maxsplit=1)) for entry in table.replace('\n', ' ').split(',')]


_COUNTED = """
권 | 책 book, 소설 novel, 잡지 magazine, 사전 dictionary
통 | 편지 letter, 이메일 email
편 | 시 poem, 영화 movie
장 | 사진 photo, 표 ticket
개 | 사과 apple, 바나나 banana, 오렌지 orange, 계란 egg, 샌드위치 sandwich, 케이크 cake
개 | 의자 chair, 책상 desk, 상자 box, 가방 bag, 모자 hat, 우산 umbrella, 시계 watch, 컵 cup
개 | 접시 plate, 그릇 bowl, 인형 doll, 선물 gift, 열쇠 key
자루 | 연필 pencil, 볼펜 pen
송이 | 꽃 flower
그루 | 나무 tree
마리 | 개 dog, 고양이 cat, 새 bird, 말 horse, 소 cow
대 | 자동차 car, 버스 bus, 택시 taxi, 트럭 truck, 비행기 plane, 자전거 bicycle, 컴퓨터 computer
대 | 카메라 camera, 휴대폰 cell phone
벌 | 치마 skirt, 코트 coat, 셔츠 shirt
명 | 학생 student, 친구 friend, 아이 child, 의사 doctor, 가수 singer, 배우 actor, 기자 reporter
명 | 이웃 neighbor, 아들 son, 딸 daughter
채 | 집 house
잔/cup | 커피 coffee, 차 tea
잔/glass | 물 water, 우유 milk, 주스 juice
"""
_COUNT = """신문 newspaper, 보고서 report, 드라마 drama, 노래 song, 그림 picture, 기차 train, 산 mountain,
피자 pizza, 파티 party, 비밀 secret, 질문 question, 약속 appointment, 여권 passport, 경기 game,
한복 hanbok"""
_MASS = """밥 rice, 빵 bread, 고기 meat, 생선 fish, 김치 kimchi, 과일 fruit, 음식 food, 음악 music,
종이 paper, 돈 money, 시간 time, 숙제 homework"""
_PLURAL = '국수 noodles, 옷 clothes, 바지 pants, 신발 shoes, 가위 scissors'
_FIXED = """아침 breakfast, 점심 lunch, 저녁 dinner, 텔레비전 television, 뉴스 the news, 라디오 the radio,
한국어 Korean, 영어 English, 중국어 Chinese, 일본어 Japanese, 수학 math, 역사 history, 과학 science,
피아노 the piano, 기타 the guitar, 수영 swimming, 테니스 tennis, 골프 golf, 탁구 table tennis,
축구 soccer, 농구 basketball, 야구 baseball, 배구 volleyball, 지하철 the subway, 문 the door,
창문 the window, 방 the room, 교실 the classroom, 부엌 the kitchen, 사무실 the office,
거실 the living room, 화장실 the bathroom, 답 the answer, 길 the way, 주소 the address,
봄 spring, 여름 summer, 가을 fall, 겨울 winter, 그 him, 그녀 her, 그들 them"""
_NAMES = (('민수 씨', 'Minsu'), ('지영 씨', 'Jiyeong'), ('수진 씨', 'Sujin'), ('현우 씨', 'Hyeonu'))

NOUNS = {
    noun.korean: noun
    for noun in (
        *(
            Noun(korean, english, 'mass' if measure else 'count', counter, measure)
            for counters, entries in rows(_COUNTED)
            for counter, _, measure in [counters.partition('/')]
            for korean, english in pairs(entries)
        ),
        *(Noun(korean, english, 'count') for korean, english in pairs(_COUNT)),
        *(Noun(korean, english, 'mass') for korean, english in pairs(_MASS)),
        *(Noun(korean, english, 'plural') for korean, english in pairs(_PLURAL)),
        *(Noun(korean, english, 'fixed') for korean, english in (*pairs(_FIXED), *_NAMES)),
    )
}
YOU = Subject('', 'you', 'you', owner='your')  # whom a question without a subject asks
WHO = Subject('누구', 'who')
PRONOUNS = (
    Subject('저', 'I', 'I', owner='my'),
    Subject('우리', 'we', 'many', owner='our'),
    Subject('그', 'he', owner='his'),
    Subject('그녀', 'she', owner='her'),
    Subject('그들', 'they', 'many', owner='their'),
)
KIN = (
    Subject('할머니', 'grandmother', honorific=True, kin=True),
    Subject('할아버지', 'grandfather', honorific=True, kin=True),
    Subject('어머니', 'mother', honorific=True, kin=True),
    Subject('아버지', 'father', honorific=True, kin=True),
    Subject('부모님', 'parents', 'many', honorific=True, kin=True),
    *(
        Subject(korean, english, kin=True)
        for korean, english in pairs(
            '형 older brother, 누나 older sister, 남동생 younger brother, 여동생 younger sister, '
            '남편 husband, 아내 wife'
        )
    ),
)
FRIENDS = (
    Subject('친구', 'friend', kin=True),
    Subject('친구들', 'friends', 'many', kin=True),
)
STRANGERS = (
    Subject('이 사람', 'this person'),
    Subject('그 사람', 'that person'),
    Subject('그 남자', 'that man'),
    Subject('그 여자', 'that woman'),
    Subject('이분', 'this person', honorific=True),
    Subject('그분', 'that person', honorific=True),
)
NAMED = tuple(Subject(korean, english) for korean, english in _NAMES)
ROLES = (
    Subject('선생님', 'the teacher', honorific=True),
    Subject('교수님', 'the professor', honorific=True),
    Subject('사장님', 'the boss', honorific=True),
    Subject('학생', 'the student'),
    Subject('학생들', 'the students', 'many'),
    Subject('의사', 'the doctor'),
    Subject('간호사', 'the nurse'),
    Subject('경찰관', 'the police officer'),
)
CHILDREN = (
    Subject('아이', 'the child'),
    Subject('아이들', 'the children', 'many'),
    Subject('아들', 'son', kin=True),
    Subject('딸', 'daughter', kin=True),
)
# What a person is; a nationality takes no article.
PROFESSIONS = pairs("""학생 student, 대학생 college student, 교사 teacher, 의사 doctor, 간호사 nurse,
경찰관 police officer, 가수 singer, 배우 actor, 요리사 chef, 기자 reporter, 변호사 lawyer, 작가 writer,
화가 painter, 군인 soldier, 농부 farmer, 회사원 office worker, 은행원 bank clerk, 과학자 scientist,
엔지니어 engineer""")
NATIONALITIES = (
    ('한국 사람', 'Korean'),
    ('미국 사람', 'American'),
    ('중국 사람', 'Chinese'),
    ('일본 사람', 'Japanese'),
    ('영국 사람', 'British'),
    ('독일 사람', 'German'),
    ('캐나다 사람', 'Canadian'),
)

PERSONS = ('그', '그녀', '그들', *(name for name, _ in _NAMES))  # 사람 in the tables


PLACES = dict(
    pairs("""학교 at school, 집 at home, 도서관 in the library, 병원 at the hospital,
은행 at the bank, 시장 at the market, 공원 in the park, 사무실 in the office, 식당 at the restaurant,
가게 at the store, 역 at the station, 공항 at the airport, 극장 at the theater, 박물관 at the museum,
대학교 at the university, 호텔 at the hotel, 카페 at the cafe, 우체국 at the post office,
수영장 at the swimming pool, 바다 in the sea, 약국 at the pharmacy""")
)
CITIES = dict(
    pairs("""서울 in Seoul, 부산 in Busan, 대전 in Daejeon, 런던 in London, 파리 in Paris,
도쿄 in Tokyo, 한국 in Korea, 중국 in China, 일본 in Japan, 독일 in Germany, 캐나다 in Canada,
미국 in the United States""")
)
VEHICLES = pairs("""버스 by bus, 지하철 by subway, 기차 by train, 택시 by taxi, 자전거 by bicycle,
자동차 by car, 트럭 by truck""")

NUMBERS = pairs("""한 one, 두 two, 세 three, 네 four, 다섯 five, 여섯 six, 일곱 seven, 여덟 eight,
아홉 nine, 열 ten, 열한 eleven, 열두 twelve""")
AGES = pairs("""다섯 five, 여섯 six, 일곱 seven, 여덟 eight, 아홉 nine, 열 ten, 열두 twelve,
열다섯 fifteen, 스무 twenty, 스물한 twenty-one, 스물다섯 twenty-five, 서른 thirty, 서른두 thirty-two,
마흔 forty, 쉰 fifty""")
CLOCK = [(f'{korean} 시에', f"at {english} o'clock") for korean, english in NUMBERS]
_PAST = [('지난주에', 'last week'), *pairs('어제 yesterday, 어젯밤에 last night, 오늘 today')]
_FUTURE = [('다음 주에', 'next week'), *pairs('내일 tomorrow, 오늘 today')]
_NOW = [('지금', 'now')]
_HABIT = pairs(
    '매일 every day, 주말마다 every weekend, 아침마다 every morning, 저녁마다 every evening'
)
TIMES = {
    'present': [*_HABIT, *_HABIT, *CLOCK],
    'past': [*_PAST, *_PAST, *_PAST, *CLOCK],
    'future': [*_FUTURE, *_FUTURE, *_FUTURE, *CLOCK],
    'intend': [*_FUTURE, *_FUTURE, *_FUTURE, *CLOCK],
    'can': _FUTURE,
    'want': [*_NOW, *_FUTURE],
    'must': [*_NOW, *_FUTURE, *_HABIT],
    'command': [*_NOW, *_FUTURE, *_HABIT],
    'forbid': _FUTURE,
    'propose': [*_NOW, *_FUTURE],
    'shall': [*_NOW, *_FUTURE],
    'progressive': _NOW,
}


OWNERS = pairs(
    """제 my, 우리 our, 그의 his, 그녀의 her, 그들의 their, 선생님의 the teacher's"""
) + [(f'{korean}의', f"{english}'s") for korean, english in _NAMES]
LANDMARKS = [
    (pairs(landmarks), pairs(relations), words(things))
    for landmarks, relations, things in rows("""
책상 the desk, 의자 the chair, 침대 the bed | 위 on, 아래 under, 옆 next to
  | 책 가방 고양이 개 연필 우산 모자 컵 열쇠 사과 시계 상자 꽃 사전 사진 신문
가방 the bag, 상자 the box | 안 in, 옆 next to
  | 책 연필 볼펜 우산 열쇠 카메라 휴대폰 사과 컵 모자 시계 사진 사전 잡지 종이 옷
냉장고 the refrigerator | 안 in | 우유 물 주스 과일 고기 생선 김치 케이크 사과 계란 빵 음식
문 the door, 창문 the window | 앞 in front of, 옆 next to
  | 의자 책상 상자 우산 개 고양이 꽃 자전거 신발
나무 the tree, 집 the house, 학교 the school | 앞 in front of, 뒤 behind, 옆 next to
  | 개 고양이 자전거 자동차 버스 택시 의자 학생 아이 꽃
""")
]
ROOMS = pairs(
    '방 in the room, 교실 in the classroom, 사무실 in the office, 거실 in the living room'
)
FURNITURE = words('의자 책상 컴퓨터 시계 상자 고양이 꽃 카메라 가방')
BELONGINGS = words("""시간 돈 숙제 자동차 자전거 개 고양이 집 컴퓨터 카메라 우산 질문 약속 여권 표 열쇠
아들 딸 휴대폰 사전""")
CARRIED = words("""책 가방 우산 모자 시계 열쇠 연필 볼펜 사전 휴대폰 카메라 자전거 자동차 컴퓨터 집 컵
의자 코트 옷 신발 사진 그림 표 여권 선물 커피 물""")
THINGS = words("""사과 바나나 오렌지 계란 샌드위치 케이크 꽃 나무 책상 상자 접시 그릇 인형 소설 잡지 신문
한복 빵 김치 국수 가위 치마 바지 주스 차""")
