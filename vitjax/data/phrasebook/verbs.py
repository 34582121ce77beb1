"""The verbs and adjectives of the phrasebook, in tables as in `words`."""

from typing import NamedTuple

from vitjax.data.phrasebook.words import pairs, rows, words


class Verb(NamedTuple):
    """A verb. `honorific` is the stem that replaces stem + 으시, such as 드시, or ''.

    `partners` are the objects it takes or, if it takes none, the adverbs that go with it.
    """

    stem: str
    honorific: str
    english: str
    moods: tuple[str, ...]
    partners: tuple[str, ...] = ()
    places: tuple[str, ...] = ()


class Adjective(NamedTuple):
    """An adjective, which in Korean inflects as a verb does, and the nouns it is said of."""

    stem: str
    honorific: str
    english: str
    comparative: str
    nouns: tuple[str, ...]


_COMMON = ('present', 'past', 'present', 'past', 'future', 'intend')
_MOODS = {
    'do': (*_COMMON, 'progressive', 'can', 'want', 'must', 'command', 'forbid', 'propose', 'shall'),
    'rise': (*_COMMON, 'can', 'want', 'must', 'command', 'forbid', 'propose', 'shall'),
    'come': (*_COMMON, 'progressive', 'can', 'want', 'must', 'command', 'forbid'),
    'live': (*_COMMON, 'progressive', 'can', 'want', 'must'),
    'happen': ('present', 'past', 'future', 'progressive'),
    'feel': ('present', 'past'),
    'know': ('present',),
}


def _verbs(table: str) -> tuple[Verb, ...]:
    verbs = []
    for stems, english, moods, *cells in rows(table):
        stem, _, honorific = stems.partition('/')
        verbs.append(Verb(stem, honorific, english, _MOODS[moods], *map(words, cells)))
    return tuple(verbs)


TRANSITIVE = _verbs("""
먹/드시 | eat | do | 밥 빵 사과 고기 생선 김치 국수 과일 케이크 바나나 샌드위치 오렌지 아침 점심 저녁
  | 집 식당 학교 공원
마시/드시 | drink | do | 물 커피 차 우유 주스 | 집 카페 식당 사무실
요리하 | cook | do | 밥 고기 생선 국수 음식 계란 | 집 식당
주문하 | order | do | 커피 차 주스 케이크 샌드위치 국수 피자 고기 | 카페 식당
준비하 | prepare | do | 아침 점심 저녁 음식 선물 파티 | 집
자르 | cut | do | 고기 빵 케이크 사과 종이 나무 피자
씻 | wash | do | 사과 과일 컵 접시 그릇 | 집
사 | buy | do | 책 소설 잡지 사전 가방 모자 우산 시계 옷 바지 치마 코트 셔츠 신발 사과 빵 우유 과일
  고기 생선 꽃 | 시장 가게
팔 | sell | do | 책 가방 모자 우산 시계 옷 신발 꽃 과일 빵 자동차 컴퓨터 자전거 카메라 | 시장 가게
고르 | choose | do | 책 가방 모자 시계 옷 신발 선물 꽃 케이크 치마 셔츠 | 시장 가게
읽 | read | do | 책 소설 잡지 신문 편지 이메일 시 보고서 | 도서관 집 학교 카페 공원
쓰 | write | do | 편지 이메일 시 소설 책 보고서 | 도서관 집 사무실 카페
보 | watch | do | 영화 드라마 텔레비전 뉴스 경기 | 집
듣 | listen to | do | 음악 노래 라디오 뉴스 | 집 카페 사무실 공원
배우 | learn | do | 한국어 영어 중국어 일본어 수학 역사 음악 피아노 기타 수영 테니스 | 학교
가르치 | teach | do | 한국어 영어 중국어 일본어 수학 역사 음악 과학 | 학교 대학교
공부하 | study | do | 한국어 영어 중국어 일본어 수학 역사 음악 과학 | 도서관 학교 집 카페
만들 | make | do | 빵 케이크 샌드위치 피자 국수 김치 음식 의자 책상 상자 인형 옷 영화 | 집
사용하 | use | do | 컴퓨터 휴대폰 카메라 사전 우산 연필 볼펜 가위 | 사무실 학교
입 | wear | do | 옷 바지 치마 코트 셔츠 한복
열 | open | do | 문 창문 가방 상자
닫 | close | do | 문 창문 가방 상자
청소하 | clean | do | 방 교실 부엌 사무실 거실 화장실
기다리 | wait for | do | 버스 기차 택시 지하철 친구 사람 | 역 공항
만나 | meet | do | 가수 배우 기자 친구 학생 이웃 사람 | 역 공항 카페 공원 식당
돕 | help | do | 아이 의사 기자 친구 학생 이웃 사람
초대하 | invite | do | 가수 배우 기자 친구 학생 이웃 사람
기르 | raise | do | 개 고양이 새 말 소 | 집
그리 | draw | do | 그림 나무 꽃 집 고양이 개 새 말 산 | 공원 집 학교
타 | take | do | 버스 기차 지하철 택시 비행기
운전하 | drive | do | 버스 택시 자동차 트럭
고치 | fix | do | 자동차 컴퓨터 자전거 시계 의자 카메라 책상 휴대폰 | 집 가게
빌리 | borrow | do | 책 소설 사전 자전거 우산 카메라 연필 볼펜
보내 | send | do | 편지 이메일 선물 돈 사진
받 | receive | happen | 편지 이메일 선물 돈 사진 표
치 | play | do | 피아노 기타 테니스 골프 탁구 | 학교
하 | play | do | 축구 농구 야구 배구 | 학교 공원
좋아하 | like | feel | 책 소설 영화 음악 노래 커피 차 우유 김치 국수 과일 고기 생선 꽃 개 고양이 축구
  농구 수학 역사 영어 봄 여름 가을 겨울
싫어하 | dislike | feel | 커피 차 우유 김치 국수 고기 생선 개 고양이 축구 야구 수학 과학 여름 겨울
사랑하 | love | feel | 음악 영화 꽃 개 고양이 사람
알 | know | know | 답 비밀 길 주소 가수 배우 이웃 사람
""")
AMBIGUOUS = ('마시', '치', '하')  # their English needs the object; 드시다 is to eat and to drink
PREFERENCES = words('좋아하 싫어하 사랑하')  # of things in general, in English a plural
COUNTING = words(
    '사 팔 먹 마시 주문하 읽 쓰 만들 그리 빌리 보내 받 고르 씻 고치 기르 보 만나 초대하'
)
SOCIAL = words("""먹 마시 보 듣 배우 공부하 만들 하 치 요리하 준비하 청소하 그리 놀 이야기하 춤추 노래하
운동하 산책하 여행하 수영하 걷 뛰 쉬 일하 가 오 돌아가 돌아오""")
TOOLS = {
    (stem, noun): pairs(tools)
    for stem, nouns, tools in rows("""
먹 | 밥 국수 고기 생선 김치 | 젓가락 with chopsticks, 숟가락 with a spoon, 포크 with a fork
자르 | 고기 빵 케이크 사과 피자 | 칼 with a knife
자르 | 종이 | 칼 with a knife, 가위 with scissors
쓰 | 편지 시 소설 | 연필 with a pencil, 볼펜 with a pen
그리 | 그림 나무 꽃 집 고양이 개 새 말 산 | 연필 with a pencil, 볼펜 with a pen, 붓 with a brush
""")
    for noun in nouns.split()
}
INTRANSITIVE = _verbs("""
자/주무시 | sleep | do | 잘 혼자 많이 | 집 호텔
쉬 | rest | do | 혼자 | 집 공원 호텔 카페
웃 | laugh | do | 많이 크게
울 | cry | happen | 많이 크게 혼자
일하 | work | do | 열심히 많이 혼자 | 사무실 병원 은행 학교 식당 가게 호텔 공항
걷 | walk | do | 천천히 빨리 많이 혼자 | 공원
뛰 | run | do | 천천히 빨리 많이 혼자 | 공원
수영하 | swim | do | 천천히 빨리 잘 혼자 | 바다 수영장
춤추 | dance | do | 잘 열심히 혼자 | 집 공원 학교
노래하 | sing | do | 잘 크게 열심히 혼자 | 집 공원 학교
운동하 | exercise | do | 열심히 많이 혼자 | 집 공원 학교
산책하 | take a walk | do | 혼자 | 공원
여행하 | travel | do | 많이 혼자
일어나 | get up | rise | 일찍 늦게
놀 | play | do | 많이 혼자 | 집 공원 학교
이야기하 | talk | do | 많이 천천히 크게 | 카페 학교 사무실
""")
ADVERBS = dict(
    pairs("""잘 well, 많이 a lot, 혼자 alone, 크게 loudly, 열심히 hard, 천천히 slowly, 빨리 fast,
일찍 early, 늦게 late""")
)
MOTION = _verbs("""
가 | go | do
오 | come | come
돌아가 | go back | do
돌아오 | come back | come
걸어가 | walk | do
뛰어가 | run | do
""")
LIVE = Verb('살', '', 'live', _MOODS['live'])


def _adjectives(table: str) -> tuple[Adjective, ...]:
    adjectives = []
    for stems, english, comparative, *nouns in rows(table):
        stem, _, honorific = stems.partition('/')
        nouns = words(' '.join(nouns))
        adjectives.append(Adjective(stem, honorific, english, comparative, nouns))
    return tuple(adjectives)


QUALITIES = _adjectives("""
크 | big | bigger | 집 방 가방 개 나무 사과 상자 의자 그림 컵
작 | small | smaller | 집 방 가방 개 새 사과 상자 의자 인형 컵
비싸 | expensive | more expensive | 집 가방 시계 자동차 카메라 옷 신발 책 코트 컴퓨터
싸 | cheap | cheaper | 가방 시계 자전거 모자 옷 신발 책 과일 커피
좋 | good | better | 책 영화 노래 카메라 컴퓨터 시계 집 음악
예쁘 | pretty | prettier | 꽃 치마 옷 가방 모자 인형 신발 컵 새
아름답 | beautiful | more beautiful | 꽃 산 노래 그림 시 음악
재미있 | interesting | more interesting | 책 소설 영화 드라마 잡지 수학 역사 경기
맛있 | delicious | more delicious | 빵 사과 김치 국수 케이크 커피 과일 고기 샌드위치 음식 오렌지
맵 | spicy | spicier | 김치 국수 음식 고기
달 | sweet | sweeter | 사과 케이크 커피 주스 과일 오렌지
뜨겁 | hot | hotter | 물 커피 차 우유 국수
차갑 | cold | colder | 물 커피 차 우유 주스
춥 | cold | colder | 방 교실 사무실 거실
덥 | hot | hotter | 방 교실 사무실 부엌
어렵 | difficult | more difficult | 책 수학 과학 한국어 영어 질문 숙제
쉽 | easy | easier | 책 수학 과학 한국어 영어 질문 숙제
무겁 | heavy | heavier | 가방 상자 책 의자 책상 코트
가볍 | light | lighter | 가방 상자 책 의자 신발 카메라
빠르 | fast | faster | 버스 기차 자동차 비행기 자전거 말 지하철
느리 | slow | slower | 버스 기차 자동차 컴퓨터 자전거 말
깨끗하 | clean | cleaner | 방 집 옷 컵 부엌 교실 화장실 접시 신발
더럽 | dirty | dirtier | 방 집 옷 컵 부엌 교실 화장실 접시 신발
조용하 | quiet | quieter | 방 교실 집 사무실
길 | long | longer | 소설 영화 치마 바지 편지 보고서 시
짧 | short | shorter | 소설 영화 치마 바지 편지 보고서 시
높 | high | higher | 산 의자 책상
유명하 | famous | more famous | 가수 배우 기자 의사 그림 책 영화 노래
""")
OPPOSITES = tuple(
    frozenset(stems)
    for stems in rows("""
크 | 작
비싸 | 싸
무겁 | 가볍
빠르 | 느리
깨끗하 | 더럽
길 | 짧
뜨겁 | 차갑
춥 | 덥
어렵 | 쉽
""")
)
STATES = _adjectives("""
바쁘 | busy | busier
피곤하 | tired | more tired
아프/편찮으시 | sick | sicker
행복하 | happy | happier
건강하 | healthy | healthier
친절하 | kind | kinder
유명하 | famous | more famous
똑똑하 | smart | smarter
키가 크 | tall | taller
""")
PASSING = words('바쁘 피곤하 아프')  # states that a day may have
WEATHER = _adjectives("""
춥 | cold | colder
덥 | hot | hotter
좋 | good | better
나쁘 | bad | worse
따뜻하 | warm | warmer
시원하 | cool | cooler
흐리 | cloudy | cloudier
맑 | clear | clearer
""")
