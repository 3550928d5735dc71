// The Sudoku example's puzzles: made, split, read and written.
#include "tests/test.h"

#include "examples/sudoku.h"

#include <fstream>
#include <set>

using namespace sudoku;

TEST_CASE("there are 288 different grids and all obey the rules", "[sudoku]") {
  const std::vector<Board>& grids = all_grids();
  CHECK(std::set<Board>(grids.begin(), grids.end()).size() == 288);
  for (const Board& grid : grids)
    for (int a = 0; a < 16; ++a)
      for (int b = 0; b < a; ++b) {
        const bool meet = a / 4 == b / 4 || a % 4 == b % 4 || (a / 8 == b / 8 && a % 4 / 2 == b % 4 / 2);
        if (meet) REQUIRE(grid[a] != grid[b]);
      }
  CHECK_FALSE(obeys_rules(parse("1234123412341234")));
  CHECK_FALSE(obeys_rules(parse("1234341221434320")));
}

TEST_CASE("generated puzzles differ, have one solution each, and follow from the seed", "[sudoku]") {
  Random random{7, 0}, again{7, 0}, other{8, 0};
  const std::vector<Puzzle> puzzles = make_puzzles(random, 2000);
  std::set<Board> givens, grids;
  for (const Puzzle& puzzle : puzzles) {
    const std::vector<Board> found = solutions(puzzle.givens);
    REQUIRE(found.size() == 1);
    REQUIRE(found[0] == puzzle.solution);
    givens.insert(puzzle.givens), grids.insert(puzzle.solution);
  }
  CHECK(givens.size() == 2000);
  CHECK(grids.size() > 280);  // uniform over 288
  const auto texts = [](const std::vector<Puzzle>& list) {
    std::string all;
    for (const Puzzle& puzzle : list) all += to_string(puzzle.givens);
    return all;
  };
  CHECK(texts(make_puzzles(again, 2000)) == texts(puzzles));
  CHECK(texts(make_puzzles(other, 2000)) != texts(puzzles));
}

TEST_CASE("no part of a split shares a puzzle with another, and by grids no solution either", "[sudoku]") {
  Random random{1, 0};
  std::vector<Puzzle> puzzles = make_puzzles(random, 2000);
  puzzles.insert(puzzles.end(), puzzles.begin(), puzzles.begin() + 100);  // repeats, as a file may have them
  for (const SplitBy by : {SplitBy::puzzles, SplitBy::grids}) {
    const Split parts = split(puzzles, by, random);
    CHECK(parts.train.size() + parts.validation.size() + parts.test.size() == 2100);
    CHECK(parts.test.size() >= 210);
    CHECK(parts.test.size() < 240);
    CHECK(parts.validation.size() >= 105);
    CHECK_NOTHROW(check_split(parts, by));
    Split leaking = parts;
    leaking.train.push_back(parts.test[3]);
    CHECK_THROWS_WITH(check_split(leaking, by), Contains("in the training set too") && Contains("test puzzle"));
  }
  CHECK_THROWS_WITH(split({puzzles.begin(), puzzles.begin() + 5}, SplitBy::puzzles, random), Contains("too few to split"));
}

TEST_CASE("boards are read, printed, encoded and decoded without loss", "[sudoku]") {
  const Board board = parse("10.4002003003.04");
  CHECK(to_string(board) == "1004002003003004");
  CHECK(decode(encode(all_grids())) == all_grids());
  const Tensor x = encode(std::vector<Board>{board});
  CHECK(x.shape() == Shape{1, 64});
  CHECK(sum(x).item() == 6);
  CHECK(x(0, 0) == 1);
  CHECK(x(0, 4) == 0);
  CHECK(x(0, 15) == 1);
  CHECK_THROWS_WITH(parse("123"), Contains("16 digits") && Contains("got 3"));
  CHECK_THROWS_WITH(parse("1234567890123456"), Contains("character 5 is '5'"));
}

TEST_CASE("an error in a file of puzzles names the file, the line and the fault", "[sudoku]") {
  const Scratch folder;
  const std::string file = folder / "mine.txt";
  const auto write = [&](const std::string& text) { std::ofstream(file) << text; };
  write("# mine\n\n0020300000040100\r\n");
  CHECK(read_puzzles(file).size() == 1);
  write("\xef\xbb\xbf" "0020300000040100\n  0020300000040100\n");  // a byte order mark; blanks
  CHECK(read_puzzles(file).size() == 2);
  write("00203000000401\x1b\xff\n");
  CHECK_THROWS_WITH(read_puzzles(file), Contains("character 15 is '\\x1b'") && Contains("'00203000000401\\x1b\\xff'"));
  write("0020300000040100\n00203000\n");
  CHECK_THROWS_WITH(read_puzzles(file), Contains(file + ": line 2: ") && Contains("got 8 characters"));
  write("0020300000040100\n0000000000000000\n");
  CHECK_THROWS_WITH(read_puzzles(file), Contains("line 2") && Contains("288 solutions"));
  CHECK(read_boards(file).size() == 2);
  write("1100000000000000\n");
  CHECK_THROWS_WITH(read_puzzles(file), Contains("line 1") && Contains("no solution"));
  write("\n");
  CHECK_THROWS_WITH(read_puzzles(file), Contains("holds no puzzle"));
  CHECK_THROWS_WITH(read_puzzles(folder / "none"), Contains("no such file"));
}
